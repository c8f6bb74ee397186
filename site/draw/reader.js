// The networks at work: in a worker, so that drawing stays smooth, or in the page where a worker may not start.
"use strict";

/** Answers requests { network?, name, bytes, view }; a network comes with the first request that names it. */
function makeAnswerer(networks, settings) {
  const known = {};
  return ({ network, name, bytes, view }) => {
    if (network) known[name] = network;
    const started = performance.now();
    const answer = networks.read(known[name], bytes, settings, view);
    return { ...answer, took: performance.now() - started };
  };
}

/**
 * Starts the reader. Its `read(network, bytes, view)` promises what `read` in network.js gives: log-probabilities and
 * the outputs of each layer, of which none are sent where `view` is null. `took` is how many milliseconds it needed.
 */
function startReader({ side, mean, std }) {
  const settings = { side, mean, std };
  const source = `"use strict";
    const answer = (${makeAnswerer})((${defineNetworks})(), ${JSON.stringify(settings)});
    onmessage = ({ data }) => {
      const { outputs, ...rest } = answer(data);
      postMessage({ number: data.number, ...rest, outputs: data.view === null ? null : outputs });
    };`;
  const waiting = new Map(); // requests that the worker has not answered
  const sent = new Set(); // names of the networks that it has
  let numbered = 0;
  let worker = null;
  const answerHere = makeAnswerer(defineNetworks(), settings);
  const answerLater = (request, resolve) => setTimeout(() => resolve(answerHere(request)));

  try {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    worker = new Worker(address);
    worker.onmessage = ({ data }) => {
      waiting.get(data.number).resolve(data);
      waiting.delete(data.number);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      worker = null;
      for (const { request, resolve } of waiting.values()) answerLater(request, resolve);
    };
  } catch {
    worker = null;
  }

  function read(network, bytes, view) {
    const { name, layers, views, weights } = network;
    const whole = { name, bytes, view, network: { layers, views, weights } };
    return new Promise((resolve) => {
      if (!worker) {
        answerLater(whole, resolve);
        return;
      }
      const number = numbered++;
      waiting.set(number, { request: whole, resolve });
      worker.postMessage({ ...(sent.has(name) ? { name, bytes, view } : whole), number });
      sent.add(name);
    });
  }

  return { read };
}
