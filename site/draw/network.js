// The forward pass of the course's networks in plain JavaScript, and the arithmetic behind each of its values.
//
// A map is kept channel by channel, row by row. Values are stored as float32, as PyTorch has them, and added up in
// float64; a test holds the log-probabilities against PyTorch's. All of it is one function, so that its source text can
// also start a worker: opened from a folder, a page may not load a worker from a file.
"use strict";

function defineNetworks() {
  /** The bytes of an image as the networks take it: mean 0 and deviation 1 over MNIST's training pixels. */
  function normalise(bytes, { mean, std }) {
    const [shift, scale] = [Math.fround(mean), Math.fround(std)];
    return Float32Array.from(bytes, (byte) => Math.fround(Math.fround(byte / 255) - shift) / scale);
  }

  /** The base64 of a network's float32 numbers as an array. */
  function decode(text) {
    const signs = atob(text);
    const bytes = new Uint8Array(signs.length);
    for (let i = 0; i < signs.length; i++) bytes[i] = signs.charCodeAt(i);
    return new Float32Array(bytes.buffer); // little-endian, as every browser's machine is
  }

  const count = ([channels, height, width]) => channels * height * width;

  /** The maps with `padding` zeros around each. */
  function pad(inputs, [channels, height, width], padding) {
    if (!padding) return inputs;
    const [tall, wide] = [height + 2 * padding, width + 2 * padding];
    const result = new Float32Array(channels * tall * wide);
    for (let line = 0; line < channels * height; line++) {
      const row = Math.floor(line / height) * tall + (line % height) + padding;
      result.set(inputs.subarray(line * width, (line + 1) * width), row * wide + padding);
    }
    return result;
  }

  function convolve(layer, inputs, shape, weights) {
    const { kernel, stride, padding, groups, shape: [outputs, rows, columns] } = layer;
    const own = shape[0] / groups; // the input channels of one output channel
    const [height, width] = [shape[1] + 2 * padding, shape[2] + 2 * padding];
    const padded = pad(inputs, shape, padding);
    const result = new Float32Array(count(layer.shape));
    const sums = new Float64Array(rows * columns);
    const add = kernel === 3 ? addThreeByThree : addWindow;
    for (let output = 0; output < outputs; output++) {
      sums.fill(layer.bias === undefined ? 0 : weights[layer.bias + output]);
      const first = Math.floor(output / (outputs / groups)) * own;
      for (let input = 0; input < own; input++) {
        const start = layer.weight + (output * own + input) * kernel * kernel;
        add(sums, padded, (first + input) * height * width, weights, start, rows, columns, width, stride, kernel);
      }
      result.set(sums, output * rows * columns);
    }
    return result;
  }

  /** Adds to `sums` what one kernel makes of one map, which begins at `plane` and has rows of `width` values. */
  function addWindow(sums, map, plane, weights, start, rows, columns, width, stride, kernel) {
    for (let ky = 0; ky < kernel; ky++) {
      for (let kx = 0; kx < kernel; kx++) {
        const weight = weights[start + ky * kernel + kx];
        for (let row = 0, to = 0; row < rows; row++) {
          let from = plane + (row * stride + ky) * width + kx;
          for (let column = 0; column < columns; column++, from += stride) sums[to++] += weight * map[from];
        }
      }
    }
  }

  /** The same for a 3x3 kernel, whose nine weights stay at hand: most of the time is spent here. */
  function addThreeByThree(sums, map, plane, weights, start, rows, columns, width, stride) {
    const [a, b, c, d, e, f, g, h, i] = weights.subarray(start, start + 9);
    for (let row = 0, to = 0; row < rows; row++) {
      let top = plane + row * stride * width;
      let middle = top + width;
      let bottom = middle + width;
      for (let column = 0; column < columns; column++, top += stride, middle += stride, bottom += stride) {
        sums[to++] += a * map[top] + b * map[top + 1] + c * map[top + 2]
          + d * map[middle] + e * map[middle + 1] + f * map[middle + 2]
          + g * map[bottom] + h * map[bottom + 1] + i * map[bottom + 2];
      }
    }
  }

  /** For each channel the factor and the summand that BatchNorm comes to in a test. */
  function normFactors(layer, channel, weights) {
    const deviation = Math.sqrt(weights[layer.running_var + channel] + layer.eps);
    const factor = weights[layer.weight + channel] / deviation;
    return [factor, weights[layer.bias + channel] - weights[layer.running_mean + channel] * factor];
  }

  function batchNorm(layer, inputs, [channels, height, width], weights) {
    const result = new Float32Array(inputs.length);
    for (let channel = 0; channel < channels; channel++) {
      const [factor, summand] = normFactors(layer, channel, weights);
      for (let i = channel * height * width; i < (channel + 1) * height * width; i++) {
        result[i] = inputs[i] * factor + summand;
      }
    }
    return result;
  }

  /** A pooling layer: `merge` makes one value of those in a window. */
  function pool(layer, inputs, [, height, width], merge) {
    const { kernel, shape: [channels, rows, columns] } = layer;
    const result = new Float32Array(count(layer.shape));
    const window = new Float64Array(kernel * kernel);
    let to = 0;
    for (let channel = 0; channel < channels; channel++) {
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          let from = (channel * height + row * kernel) * width + column * kernel;
          for (let ky = 0, i = 0; ky < kernel; ky++, from += width) {
            for (let kx = 0; kx < kernel; kx++, i++) window[i] = inputs[from + kx];
          }
          result[to++] = merge(window);
        }
      }
    }
    return result;
  }

  function largest(window) {
    let most = -Infinity;
    for (let i = 0; i < window.length; i++) if (window[i] > most) most = window[i];
    return most;
  }

  function mean(window) {
    let sum = 0;
    for (let i = 0; i < window.length; i++) sum += window[i];
    return sum / window.length;
  }

  function linear(layer, inputs, weights) {
    return Float32Array.from({ length: layer.shape[0] }, (_, output) => {
      let sum = weights[layer.bias + output];
      const row = layer.weight + output * inputs.length;
      for (let i = 0; i < inputs.length; i++) sum += weights[row + i] * inputs[i];
      return sum;
    });
  }

  /** The logarithm of the sum of the values' exponentials. */
  function logSum(values) {
    const most = largest(values);
    return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
  }

  const logSoftmax = (values) => {
    const norm = logSum(values);
    return values.map((value) => value - norm);
  };

  const silu = (value) => value / (1 + Math.exp(-value));

  function apply(layer, inputs, shape, weights) {
    switch (layer.kind) {
      case "Conv2d": return convolve(layer, inputs, shape, weights);
      case "BatchNorm2d": return batchNorm(layer, inputs, shape, weights);
      case "ReLU": return inputs.map((value) => (value > 0 ? value : 0));
      case "SiLU": return inputs.map(silu);
      case "MaxPool2d": return pool(layer, inputs, shape, largest);
      case "AvgPool2d": return pool(layer, inputs, shape, mean);
      case "Linear": return linear(layer, inputs, weights);
      case "LogSoftmax": return logSoftmax(inputs);
      case "Flatten": case "Dropout": return inputs; // a dropout drops nothing in a test
      default: throw new Error(`There is no layer ${layer.kind} here.`);
    }
  }

  const inputShape = (side) => [1, side, side];

  /** The output of each layer for a normalised image; the first is the image. */
  function forward(network, image, side) {
    const outputs = [image];
    let shape = inputShape(side);
    for (const layer of network.layers) {
      outputs.push(apply(layer, outputs[outputs.length - 1], shape, network.weights));
      shape = layer.shape;
    }
    return outputs;
  }

  /** The normalised image seen another way: each pixel is read, between four, where the matrix points to. */
  function view(image, matrix, { side, mean, std }) {
    const background = -mean / std;
    const middle = (side - 1) / 2;
    const ink = (x, y) => (x < 0 || y < 0 || x >= side || y >= side ? 0 : image[y * side + x] - background);
    return image.map((_, i) => {
      const [column, row] = [(i % side) - middle, Math.floor(i / side) - middle];
      const x = matrix[0] * column + matrix[1] * row + matrix[2] + middle;
      const y = matrix[3] * column + matrix[4] * row + matrix[5] + middle;
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [partX, partY] = [x - left, y - top];
      const upper = (1 - partX) * ink(left, top) + partX * ink(left + 1, top);
      const lower = (1 - partX) * ink(left, top + 1) + partX * ink(left + 1, top + 1);
      return (1 - partY) * upper + partY * lower + background;
    });
  }

  /**
   * What a network makes of an image of bytes: its log-probabilities, and the outputs of every layer for the view of
   * that number. A network that looks several times has the mean of its looks, normalised again.
   */
  function read(network, bytes, settings, shown = 0) {
    const image = normalise(bytes, settings);
    const views = network.views.length ? network.views.map(({ matrix }) => matrix) : [null];
    let outputs = null;
    let sum = null;
    views.forEach((matrix, number) => {
      const all = forward(network, matrix && number ? view(image, matrix, settings) : image, settings.side);
      const last = all[all.length - 1];
      sum = sum ? sum.map((value, i) => value + last[i]) : Float64Array.from(last);
      if (number === shown) outputs = all;
    });
    return { logProbabilities: logSoftmax(sum.map((value) => value / views.length)), outputs };
  }

  /**
   * How one output value of a layer comes about: `parts`, what is added up or chosen from, and what is done with them.
   * `place` is [channel, row, column]; `outputs` are those of `forward`. A part of a convolution is one input channel.
   */
  function explain(network, outputs, index, [channel, row, column], side) {
    const layer = network.layers[index];
    const inputs = outputs[index];
    const shape = index ? network.layers[index - 1].shape : inputShape(side);
    const [, height, width] = shape;
    const { weights } = network;
    const [, rows, columns] = layer.shape;
    const place = (channel * rows + row) * columns + column;
    const value = outputs[index + 1][place];
    const at = (map, y, x) =>
      y < 0 || x < 0 || y >= height || x >= width ? null : inputs[(map * height + y) * width + x];
    const patch = (map, top, left, size) =>
      Array.from({ length: size * size }, (_, i) => at(map, top + Math.floor(i / size), left + (i % size)));
    const common = { kind: layer.kind, value };
    if (layer.kind === "Conv2d") {
      const { kernel, stride, padding, groups } = layer;
      const own = shape[0] / groups;
      const first = Math.floor(channel / (layer.shape[0] / groups)) * own;
      const parts = Array.from({ length: own }, (_, input) => {
        const seen = patch(first + input, row * stride - padding, column * stride - padding, kernel);
        const start = layer.weight + (channel * own + input) * kernel * kernel;
        const factors = Array.from(weights.subarray(start, start + kernel * kernel));
        // null is padding: beyond the edge, where a map counts as 0
        const sum = factors.reduce((total, factor, i) => total + factor * (seen[i] ?? 0), 0);
        return { channel: first + input, patch: seen, kernel: factors, sum };
      });
      const bias = layer.bias === undefined ? null : weights[layer.bias + channel];
      return { ...common, parts, bias, total: parts.reduce((total, part) => total + part.sum, bias ?? 0) };
    }
    if (layer.kind === "MaxPool2d" || layer.kind === "AvgPool2d") {
      const seen = patch(channel, row * layer.kernel, column * layer.kernel, layer.kernel);
      return { ...common, patch: seen, total: layer.kind === "MaxPool2d" ? largest(seen) : mean(seen) };
    }
    if (layer.kind === "BatchNorm2d") {
      const [input, running, variance] = [inputs[place], layer.running_mean, layer.running_var];
      const [factor, summand] = normFactors(layer, channel, weights);
      return {
        ...common, input, mean: weights[running + channel], variance: weights[variance + channel], eps: layer.eps,
        weight: weights[layer.weight + channel], bias: weights[layer.bias + channel], total: input * factor + summand,
      };
    }
    if (layer.kind === "Linear") {
      const row = layer.weight + channel * inputs.length;
      const parts = Array.from(inputs, (input, i) => ({ channel: i, input, weight: weights[row + i] }));
      const bias = weights[layer.bias + channel];
      return { ...common, parts, bias, total: parts.reduce((sum, part) => sum + part.input * part.weight, bias) };
    }
    const input = inputs[place];
    if (layer.kind === "LogSoftmax") {
      const norm = logSum(Float64Array.from(inputs));
      return { ...common, input, norm, total: input - norm };
    }
    const total = { ReLU: Math.max(0, input), SiLU: silu(input) }[layer.kind] ?? input;
    return { ...common, input, total };
  }

  return { decode, read, explain, inputShape };
}
