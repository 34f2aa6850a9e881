// Draws detections as the Python package does: limbs with a dark outline, keypoints, boxes with labels; best score on top.

const VISIBLE = 0.25; // keypoints of lower confidence are not drawn

/** Returns whether a keypoint is drawn in an image of this size. */
export function isVisible([x, y, confidence], { width, height }) {
  const inside = x >= 0 && x <= width && y >= 0 && y <= height && (x > 0 || y > 0);
  return inside && (confidence === undefined || confidence >= VISIBLE);
}

/**
 * Draws detections.
 *
 * @param context of a canvas that shows the whole image
 * @param detections in image pixels
 * @param metadata content of model.json
 * @param view { width, height } of the image, `scale` from image to canvas pixels, `unit` canvas pixels per CSS pixel
 * @param settings { boxes, points, names }: what to draw
 */
export function draw(context, detections, metadata, view, settings) {
  const size = Math.sqrt(view.width * view.height) * view.scale;
  for (const detection of [...detections].reverse()) {
    if (settings.points) drawSkeleton(context, detection, metadata, view, size);
    if (settings.boxes) drawBox(context, detection, metadata.classes[detection.cls], view);
  }
  context.textBaseline = "middle";
  const occupied = []; // rectangles of texts
  for (const detection of settings.boxes ? detections : []) {
    drawLabel(context, detection, metadata.classes[detection.cls], view, occupied);
  }
  for (const detection of settings.names ? detections : []) drawNames(context, detection, metadata, view, occupied);
}

function drawSkeleton(context, { box, points }, metadata, view, size) {
  const extent = Math.sqrt((box[2] - box[0]) * (box[3] - box[1])) * view.scale;
  const toCanvas = ([x, y]) => [x * view.scale, y * view.scale];
  const limbs = metadata.limbs.filter(([from, to]) => isVisible(points[from], view) && isVisible(points[to], view));
  const width = Math.max(Math.min(extent / 60, Math.max(size * 0.003, 2 * view.unit)), view.unit);
  context.lineCap = "round";
  for (const [extra, paint] of [[Math.max(2 * view.unit, width * 0.8), "#181818"], [0, null]]) {
    context.lineWidth = width + extra;
    for (const [from, to, color] of limbs) {
      context.strokeStyle = paint || color;
      context.beginPath();
      context.moveTo(...toCanvas(points[from]));
      context.lineTo(...toCanvas(points[to]));
      context.stroke();
    }
  }
  const radius = Math.max(Math.min(extent * 0.025, Math.max(size * 0.005, 3 * view.unit)), 1.2 * view.unit);
  points.forEach((point, index) => {
    if (!isVisible(point, view)) return;
    context.fillStyle = "#ffffff";
    drawDot(context, toCanvas(point), radius + Math.max(view.unit, radius * 0.3));
    context.fillStyle = metadata.points[index];
    drawDot(context, toCanvas(point), radius);
  });
}

function drawDot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function drawBox(context, { box }, { color }, { scale, unit }) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  context.strokeStyle = color;
  context.lineWidth = 2 * unit;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

const isDisjoint = (a, b) => a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];

/** Returns the first position [left, top] where a text is inside the canvas and overlaps no other, or null. */
function freePosition(positions, width, height, limits, occupied) {
  return positions.find(([left, top]) => {
    const rectangle = [left, top, left + width, top + height];
    const isInside = left >= 0 && top >= 0 && rectangle[2] <= limits[0] && rectangle[3] <= limits[1];
    return isInside && occupied.every((other) => isDisjoint(rectangle, other));
  }) || null;
}

const canvasSize = (context) => [context.canvas.width, context.canvas.height];

/** Draws name and score above the box, inside its top, inside its bottom or below: the first free position. */
function drawLabel(context, { box, score, id }, { name, color, ink }, { scale, unit }, occupied) {
  const limits = canvasSize(context);
  const text = `${id ? `#${id} ` : ""}${name} ${score.toFixed(2)}`;
  const fontSize = (limits[0] < 560 * unit ? 11 : 13) * unit;
  context.font = `600 ${fontSize}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 0.7 * fontSize;
  const height = Math.round(1.5 * fontSize);
  const [x1, y1, , y2] = box.map((value) => value * scale);
  const left = Math.max(Math.min(x1 - unit, limits[0] - width), 0);
  const positions = [y1 + unit - height, y1 - unit, y2 + unit - height, y2 - unit].map((top) => [left, top]);
  const fallback = positions.find(([, top]) => top >= 0) || [left, 0];
  const [x, y] = freePosition(positions, width, height, limits, occupied) || fallback;
  occupied.push([x, y, x + width, y + height]);
  context.fillStyle = color;
  context.fillRect(x, y, width, height);
  context.fillStyle = ink;
  context.fillText(text, x + 0.35 * fontSize, y + height / 2 + unit / 2);
}

/** Draws the name of each keypoint beside it, outlined for any background; omitted if no position is free. */
function drawNames(context, { cls, points }, metadata, view, occupied) {
  const fontSize = 11 * view.unit;
  context.font = `${fontSize}px system-ui, sans-serif`;
  Object.assign(context, { lineJoin: "round", lineWidth: 3 * view.unit, strokeStyle: "#181818", fillStyle: "#ffffff" });
  points.forEach((point, index) => {
    if (!isVisible(point, view)) return;
    const text = metadata.classes[cls].points[index];
    const width = context.measureText(text).width;
    const [x, y] = [point[0] * view.scale, point[1] * view.scale];
    const distance = 7 * view.unit;
    const positions = [
      [x + distance, y - fontSize / 2],
      [x - distance - width, y - fontSize / 2],
      [x - width / 2, y + distance],
      [x - width / 2, y - distance - fontSize],
    ];
    const position = freePosition(positions, width, fontSize, canvasSize(context), occupied);
    if (!position) return;
    const [left, top] = position;
    occupied.push([left, top, left + width, top + fontSize]);
    context.strokeText(text, left, top + fontSize / 2);
    context.fillText(text, left, top + fontSize / 2);
  });
}
