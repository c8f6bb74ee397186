// Tables that sort by a click on the head of a column, on the pages that say <meta name="tables" content="sortable">,
// and two things that the theme leaves open.
"use strict";

// What a cell is sorted by: its first number, in seconds where it is a time; else its text.
function sortKey(cell) {
  const text = cell.textContent.trim();
  const found = text.replace(/,/g, "").match(/-?\d+(\.\d+)?/);
  if (!found || !/^\W*\d/.test(text)) return text.toLowerCase();
  return Number(found[0]) * (/^\S+ minutes/.test(text) ? 60 : 1);
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1; // what has no number comes last
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
      rows.sort(([a], [b]) => sign * compare(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

document.addEventListener("DOMContentLoaded", () => {
  // A page opened from a folder may read no other file, so the search shows titles there and no excerpts.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  document.querySelectorAll(".bd-sidebar-primary summary:not([aria-label])").forEach((summary) => {
    const page = summary.parentElement.parentElement.querySelector("a");
    summary.setAttribute("aria-label", `Pages under ${page.textContent.trim()}`); // the theme has an arrow alone
  });
  if (document.querySelector('meta[name="tables"][content="sortable"]')) {
    document.querySelectorAll(".bd-article table").forEach((table) => table.tHead && makeSortable(table));
  }
});
