"use strict";
// The page is complete without this script. It makes the map answer: a part that is chosen shows its records.
(function () {
  let data = null;

  function make(name, content, className) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (content !== undefined) node.textContent = content;
    return node;
  }

  function number(value) {
    return value.toLocaleString("en-US");
  }

  function recordsTable(listed) {
    const box = make("div", undefined, "scroll");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Records of the chosen part");
    const table = box.appendChild(make("table"));
    const head = table.appendChild(make("thead")).appendChild(make("tr"));
    for (const title of ["Record", "Line", "Content", "Why it failed"]) {
      head.appendChild(make("th", title)).scope = "col";
    }
    const body = table.appendChild(make("tbody"));
    for (const one of listed) {
      const row = body.appendChild(make("tr"));
      row.appendChild(make("td", one.file ? one.file + ", " + one.record : one.record));
      row.appendChild(make("td", one.line === null ? "" : number(one.line)));
      row.appendChild(make("td")).appendChild(make("code", one.entry));
      const reason = row.appendChild(make("td"));
      reason.appendChild(make("code", one.reason));
      if (one.range) {
        const button = reason.appendChild(make("p")).appendChild(make("button", "Run again", "act"));
        button.type = "button";
        button.dataset.action = "redrive";
        button.dataset.range = one.range.join(",");
        button.dataset.ask = "Run this record again: " + one.entry;
      }
    }
    return box;
  }

  function show(cell, chosen) {
    const part = data.parts[cell.dataset.part] || {};
    const box = make("div");
    box.appendChild(make("h3", cell.title));
    if (part.missing) box.appendChild(make("p", "Missing: bytes " + part.missing.join(", bytes ") + "."));
    const listed = (part.records || []).map((at) => data.records[at]);
    if (listed.length) box.appendChild(recordsTable(listed));
    if (part.more) box.appendChild(make("p", part.more, "soft"));
    if (!part.missing && !listed.length && !part.more) box.appendChild(make("p", "Nothing failed here."));
    // What did not change is not read aloud again.
    if (chosen.innerHTML !== box.innerHTML) chosen.replaceChildren(...box.childNodes);
  }

  function start() {
    const map = document.getElementById("map");
    const chosen = document.getElementById("chosen");
    if (!map || !chosen) return;
    data = JSON.parse(document.getElementById("data").textContent);
    const cells = Array.from(map.querySelectorAll("button"));
    const bad = cells.filter((cell) => !cell.classList.contains("done"));
    let current = cells[0];
    let pressed = null;

    function focus(cell) {
      if (!cell) return;
      current.tabIndex = -1;
      current = cell;
      current.tabIndex = 0;
      current.focus();
    }

    function columns() {
      const top = cells[0].offsetTop;
      const next = cells.findIndex((cell) => cell.offsetTop !== top);
      return next < 0 ? cells.length : next;
    }

    map.addEventListener("click", (event) => {
      const cell = event.target.closest("button");
      if (!cell) return;
      focus(cell);
      if (pressed) pressed.setAttribute("aria-pressed", "false");
      pressed = cell;
      pressed.setAttribute("aria-pressed", "true");
      show(cell, chosen);
    });
    map.addEventListener("keydown", (event) => {
      const at = cells.indexOf(current);
      const to = {
        ArrowRight: () => cells[at + 1],
        ArrowLeft: () => cells[at - 1],
        ArrowDown: () => cells[at + columns()],
        ArrowUp: () => cells[at - columns()],
        Home: () => cells[0],
        End: () => cells[cells.length - 1],
        PageDown: () => bad.find((cell) => cells.indexOf(cell) > at),
        PageUp: () => bad.filter((cell) => cells.indexOf(cell) < at).pop(),
      }[event.key];
      if (!to || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      focus(to());
    });
    for (const cell of cells) cell.tabIndex = -1;
    current.tabIndex = 0;
  }

  window.startReport = start;
  start();
})();
