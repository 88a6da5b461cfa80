(function () {
  "use strict";

  function all(selector, root) {
    return Array.prototype.slice.call((root || document).querySelectorAll(selector));
  }

  function element(name, text) {
    var made = document.createElement(name);
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function shown(value) {
    if (value === null || value === undefined) { return "–"; }
    return typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 5 }) : String(value);
  }

  // Tables: a button in a heading sorts by its column, once more in the other direction; what is missing comes last.

  function key(row, index) {
    var cell = row.cells[index];
    if (cell.hasAttribute("data-value")) {
      var value = cell.getAttribute("data-value");
      return value === "" ? null : Number(value);
    }
    return cell.textContent;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") { return a - b; }
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sort(button) {
    var heading = button.parentNode;
    var table = heading.closest("table");
    var body = table.tBodies[0];
    var ascending = heading.getAttribute("aria-sort") !== "ascending";
    var rows = all("tr", body).map(function (row, place) {
      return { row: row, place: place, key: key(row, heading.cellIndex) };
    });
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) {
        return a.key === b.key ? a.place - b.place : (a.key === null ? 1 : -1);
      }
      return (ascending ? 1 : -1) * compare(a.key, b.key) || a.place - b.place;
    });
    all("th", table).forEach(function (other) { other.removeAttribute("aria-sort"); });
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    rows.forEach(function (one) { body.appendChild(one.row); });
  }

  // Objects of an image: the rows of its data, in the order of the outlines.

  function objects(figure) {
    if (!figure.objects) {
      var data = figure.querySelector("script[type='application/json']");
      figure.objects = data ? JSON.parse(data.textContent) : { columns: [], rows: [] };
    }
    return figure.objects;
  }

  function described(table, index, separator) {
    var row = table.rows[index];
    if (!row) { return ""; }
    return table.columns.map(function (name, column) {
      return row[column] === null ? null : name + " " + shown(row[column]);
    }).filter(Boolean).join(separator);
  }

  function indexOf(path) {
    return all(".outlines path", path.closest("svg")).indexOf(path);
  }

  // Switches of outlines.

  function toggle(input) {
    all("g.outlines").forEach(function (group) {
      if (group.getAttribute("data-group") === input.getAttribute("data-group")) {
        if (input.checked) { group.removeAttribute("hidden"); } else { group.setAttribute("hidden", ""); }
      }
    });
  }

  // The numbers of the object below the pointer.

  var tip = document.getElementById("tip");

  function point(event) {
    var path = event.target.closest && event.target.closest(".outlines path");
    var figure = path && (path.closest("figure.image") || viewer.figure);
    if (!figure) { tip.hidden = true; return; }
    var home = document.getElementById("viewer");
    (home.open ? home : document.body).appendChild(tip);
    tip.textContent = described(objects(figure), indexOf(path), "\n");
    tip.hidden = tip.textContent === "";
    var right = event.clientX + tip.offsetWidth + 24 > window.innerWidth;
    var below = event.clientY + tip.offsetHeight + 24 > window.innerHeight;
    tip.style.left = Math.max(0, right ? event.clientX - tip.offsetWidth - 12 : event.clientX + 14) + "px";
    tip.style.top = Math.max(0, below ? event.clientY - tip.offsetHeight - 12 : event.clientY + 14) + "px";
  }

  // One image by itself: zoomed by keys, buttons and the wheel, moved by dragging, its objects visited by arrow keys.

  var MOST_ROWS = 1000;
  var viewer = { figure: null, svg: null, whole: null, box: null, current: -1 };
  var dialog = document.getElementById("viewer");
  var stage = document.getElementById("viewer-stage");
  var status = document.getElementById("viewer-status");

  function figures() { return all("figure.image"); }

  function show(box) {
    viewer.box = box;
    viewer.svg.setAttribute("viewBox", box.join(" "));
  }

  function clamp(box) {
    var whole = viewer.whole;
    var x = Math.min(Math.max(box[0], whole[0] - box[2] / 2), whole[0] + whole[2] - box[2] / 2);
    var y = Math.min(Math.max(box[1], whole[1] - box[3] / 2), whole[1] + whole[3] - box[3] / 2);
    return [x, y, box[2], box[3]];
  }

  function zoom(factor, x, y) {
    var box = viewer.box;
    var width = Math.min(Math.max(box[2] / factor, viewer.whole[2] / 64), viewer.whole[2]);
    var scale = width / box[2];
    x = x === undefined ? box[0] + box[2] / 2 : x;
    y = y === undefined ? box[1] + box[3] / 2 : y;
    show(scale === 1 && factor < 1 ? viewer.whole.slice() : clamp([
      x - (x - box[0]) * scale, y - (y - box[1]) * scale, width, box[3] * scale
    ]));
  }

  function at(event) {
    var matrix = viewer.svg.getScreenCTM();
    if (!matrix) { return [undefined, undefined]; }
    return [(event.clientX - matrix.e) / matrix.a, (event.clientY - matrix.f) / matrix.d];
  }

  function visible(path) { return !path.parentNode.hasAttribute("hidden"); }

  function select(index) {
    var paths = all(".outlines path", viewer.svg);
    paths.forEach(function (path, place) { path.classList.toggle("current", place === index); });
    all("tbody tr", dialog).forEach(function (row) {
      row.classList.toggle("current", row.getAttribute("data-index") === String(index));
    });
    viewer.current = index;
    status.textContent = described(objects(viewer.figure), index, ", ");
    var path = paths[index];
    if (!path) { return; }
    var group = path.parentNode.transform.baseVal;
    var scale = group.numberOfItems ? group.getItem(0).matrix.a : 1;
    var bounds = path.getBBox();
    var box = viewer.box;
    var x = (bounds.x + bounds.width / 2) * scale;
    var y = (bounds.y + bounds.height / 2) * scale;
    if (x < box[0] || y < box[1] || x > box[0] + box[2] || y > box[1] + box[3]) {
      show(clamp([x - box[2] / 2, y - box[3] / 2, box[2], box[3]]));
    }
  }

  function step(by) {
    var paths = all(".outlines path", viewer.svg);
    var index = viewer.current;
    for (var tried = 0; tried < paths.length; tried++) {
      index = index < 0 ? (by > 0 ? 0 : paths.length - 1) : (index + by + paths.length) % paths.length;
      if (visible(paths[index])) { select(index); return; }
    }
  }

  function listed(table) {
    var made = element("table");
    made.appendChild(element("caption", table.rows.length > MOST_ROWS
      ? "The first " + shown(MOST_ROWS) + " of " + shown(table.rows.length) + " objects" : "Objects"));
    var head = made.createTHead().insertRow();
    table.columns.forEach(function (name) {
      var heading = element("th");
      heading.scope = "col";
      var button = element("button", name);
      button.type = "button";
      heading.appendChild(button);
      head.appendChild(heading);
    });
    var body = made.createTBody();
    table.rows.slice(0, MOST_ROWS).forEach(function (row, index) {
      var line = body.insertRow();
      line.setAttribute("data-index", String(index));
      row.forEach(function (value, column) {
        var cell = line.insertCell();
        if (column === 0) {
          var button = element("button", shown(value));
          button.type = "button";
          button.setAttribute("data-object", String(index));
          cell.appendChild(button);
        } else {
          cell.textContent = shown(value);
        }
        if (typeof value !== "string") { cell.setAttribute("data-value", value === null ? "" : String(value)); }
      });
    });
    return made;
  }

  function open(figure) {
    viewer.figure = figure;
    viewer.current = -1;
    status.textContent = "";
    document.getElementById("viewer-title").textContent = figure.getAttribute("data-name");
    var svg = figure.querySelector("svg").cloneNode(true);
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-describedby", "viewer-hint");
    stage.replaceChildren(svg);
    viewer.svg = svg;
    viewer.whole = svg.getAttribute("viewBox").split(" ").map(Number);
    show(viewer.whole.slice());
    var table = objects(figure);
    var place = document.getElementById("viewer-table");
    place.className = "tall";
    place.hidden = table.rows.length === 0;
    place.replaceChildren(listed(table));
    if (!dialog.open) { dialog.showModal(); }
    svg.focus();
  }

  function go(by) {
    var list = figures();
    open(list[(list.indexOf(viewer.figure) + by + list.length) % list.length]);
  }

  var actions = {
    previous: function () { go(-1); },
    next: function () { go(1); },
    "in": function () { zoom(1.5); },
    out: function () { zoom(1 / 1.5); },
    fit: function () { show(viewer.whole.slice()); },
    close: function () { dialog.close(); }
  };

  var keys = {
    ArrowRight: function () { step(1); },
    ArrowDown: function () { step(1); },
    ArrowLeft: function () { step(-1); },
    ArrowUp: function () { step(-1); },
    "+": actions["in"],
    "=": actions["in"],
    "-": actions.out,
    "0": actions.fit
  };

  document.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (button && button.parentNode.nodeName === "TH") { sort(button); return; }
    if (button && button.hasAttribute("data-do")) { actions[button.getAttribute("data-do")](); return; }
    if (button && button.hasAttribute("data-object")) { select(Number(button.getAttribute("data-object"))); return; }
    if (button && button.hasAttribute("data-open")) {
      open(document.getElementById(button.getAttribute("data-open")));
      return;
    }
    var figure = event.target.closest("figure.image");
    if (figure && event.target.closest("svg")) { open(figure); }
  });

  document.addEventListener("change", function (event) {
    if (event.target.hasAttribute("data-group")) { toggle(event.target); }
  });

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerleave", function () { tip.hidden = true; });
  dialog.addEventListener("close", function () {
    tip.hidden = true;
    document.body.appendChild(tip);
    var back = viewer.figure && viewer.figure.querySelector("figcaption button");
    if (back) { back.focus(); }
  });

  stage.addEventListener("keydown", function (event) {
    var action = !event.ctrlKey && !event.metaKey && !event.altKey && keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });

  stage.addEventListener("wheel", function (event) {
    event.preventDefault();
    var place = at(event);
    zoom(Math.exp(-event.deltaY / 400), place[0], place[1]);
  }, { passive: false });

  var drag = null;
  var dragged = false;
  stage.addEventListener("pointerdown", function (event) {
    if (event.button !== 0) { return; }
    drag = { at: at(event), x: event.clientX, y: event.clientY };
    dragged = false;
  });
  window.addEventListener("pointermove", function (event) {
    if (!drag) { return; }
    if (Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) > 4) { dragged = true; }
    var now = at(event);
    if (dragged && now[0] !== undefined) {
      var box = viewer.box;
      show(clamp([box[0] + drag.at[0] - now[0], box[1] + drag.at[1] - now[1], box[2], box[3]]));
    }
  });
  window.addEventListener("pointerup", function () { drag = null; });
  stage.addEventListener("click", function (event) {
    var path = event.target.closest(".outlines path");
    if (path && !dragged) { select(indexOf(path)); }
  });

  // On paper, what is folded is shown, too.
  window.addEventListener("beforeprint", function () {
    all("details:not([open])").forEach(function (one) { one.open = true; one.setAttribute("data-folded", ""); });
  });
  window.addEventListener("afterprint", function () {
    all("details[data-folded]").forEach(function (one) { one.open = false; one.removeAttribute("data-folded"); });
  });
}());
