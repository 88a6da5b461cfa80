// What a tool has in hand, drawn over the image in device pixels: lines, brush, rectangle, polygon, clicks.

const LINE_COLOURS = { delete: "#ff4d3d", split: "#e58cff", polygon: "#2fd3c9" };

/**
 * Draws `hand`: { ratio, tool, stroke, atWork, polygon, pointer, radius, added, cross }; see Tools. Strokes `atWork` have been sent,
 * and stay until what they changed is drawn.
 */
export function drawTools(context, viewport, hand) {
  const { ratio, tool, stroke, pointer } = hand;
  for (const one of hand.atWork) drawStroke(context, viewport, ratio, one);
  if (stroke && (stroke.moved || stroke.tool !== "delete") && !["add", "polygon"].includes(stroke.tool)) drawStroke(context, viewport, ratio, { radius: hand.radius, ...stroke });
  if (hand.polygon) drawPolygon(context, viewport, hand);
  if ((tool === "brush" || tool === "eraser") && pointer) ring(context, pointer, hand.radius * viewport.scale, ratio);
  for (const place of hand.added?.inside ?? []) sign(context, viewport.toScreen(place), true, ratio);
  for (const place of hand.added?.outside ?? []) sign(context, viewport.toScreen(place), false, ratio);
  if (hand.cross) sign(context, [viewport.width / 2, viewport.height / 2], true, 2.5 * ratio);
}

/** Strokes the current path with a dark rim, so that it is seen on bright and on dark. */
function outlined(context, width, ratio, colour, draw = () => context.stroke()) {
  for (const [style, wide] of [
    ["rgb(0 0 0 / .6)", (width + 2) * ratio],
    [colour, width * ratio],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    draw();
  }
}

function trace(context, viewport, line) {
  context.lineJoin = context.lineCap = "round";
  context.beginPath();
  for (const place of line) context.lineTo(...viewport.toScreen(place));
}

function drawStroke(context, viewport, ratio, { tool, line, radius, to }) {
  if (tool === "rectangle") {
    drawRectangle(context, viewport.toScreen(line[0]), viewport.toScreen(to), ratio);
    return;
  }
  trace(context, viewport, line.length > 1 ? line : [line[0], line[0]]);
  if (tool === "brush" || tool === "eraser") {
    context.strokeStyle = tool === "brush" ? "rgb(47 211 201 / .55)" : "rgb(255 255 255 / .4)";
    context.lineWidth = Math.max(2 * radius * viewport.scale, 1);
    context.stroke();
  } else {
    if (tool === "delete") context.setLineDash([6 * ratio, 5 * ratio]);
    outlined(context, tool === "delete" ? 2.5 : 2, ratio, LINE_COLOURS[tool] ?? "#fff");
    context.setLineDash([]);
  }
}

function drawRectangle(context, [x, y], [right, bottom], ratio) {
  context.fillStyle = "rgb(47 211 201 / .15)";
  context.fillRect(x, y, right - x, bottom - y);
  outlined(context, 2, ratio, "#2fd3c9", () => context.strokeRect(x, y, right - x, bottom - y));
}

function drawPolygon(context, viewport, { polygon, pointer, ratio }) {
  trace(context, viewport, polygon);
  if (pointer) context.lineTo(...pointer);
  outlined(context, 2, ratio, LINE_COLOURS.polygon);
  ring(context, viewport.toScreen(polygon[0]), 4 * ratio, ratio);
}

function ring(context, [x, y], radius, ratio) {
  context.beginPath();
  context.arc(x, y, Math.max(radius, 1), 0, 2 * Math.PI);
  outlined(context, 1.5, ratio, "#fff");
}

/** A plus where a click adds, a minus where one takes away. */
function sign(context, [x, y], plus, size) {
  const arm = 5 * size;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(x - arm, y);
  context.lineTo(x + arm, y);
  if (plus) {
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
  }
  outlined(context, 2, size, plus ? "#fff" : "#ff5c8a");
}
