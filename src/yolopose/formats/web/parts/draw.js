// Draws objects as yolopose's Python side does: limbs with a dark rim, points, boxes with names, the surest on top.

const VISIBLE = 0.25; // points of lower confidence are not drawn

/** Whether a point of an object is drawn in an image of this size. */
export function shown([x, y, confidence], { width, height }) {
  const inside = x >= 0 && x <= width && y >= 0 && y <= height && (x > 0 || y > 0);
  return inside && (confidence === undefined || confidence >= VISIBLE);
}

/**
 * Draws objects.
 *
 * @param context of a canvas that shows the whole image
 * @param found list of objects, pixels of the image
 * @param about record of the network
 * @param view { width, height } of the image, `scale` from it to the canvas, `unit` canvas pixels of one on the screen
 * @param wishes { boxes, points, names }: what is drawn
 */
export function draw(context, found, about, view, wishes) {
  const size = Math.sqrt(view.width * view.height) * view.scale;
  for (const one of [...found].reverse()) {
    if (wishes.points) skeleton(context, one, about, view, size);
    if (wishes.boxes) frame(context, one, about.classes[one.cls], view);
  }
  context.textBaseline = "middle";
  const taken = []; // rectangles with text in them
  if (wishes.boxes) for (const one of found) label(context, one, about.classes[one.cls], view, taken);
  if (wishes.names) for (const one of found) pointNames(context, one, about, view, taken);
}

function skeleton(context, { box, points }, about, view, size) {
  const extent = Math.sqrt((box[2] - box[0]) * (box[3] - box[1])) * view.scale;
  const place = ([x, y]) => [x * view.scale, y * view.scale];
  const limbs = about.limbs.filter(([from, to]) => shown(points[from], view) && shown(points[to], view));
  const width = Math.max(Math.min(extent / 60, Math.max(size * 0.003, 2 * view.unit)), view.unit);
  context.lineCap = "round";
  for (const [extra, paint] of [[Math.max(2 * view.unit, width * 0.8), "#181818"], [0, null]]) {
    context.lineWidth = width + extra;
    for (const [from, to, color] of limbs) {
      context.strokeStyle = paint || color;
      context.beginPath();
      context.moveTo(...place(points[from]));
      context.lineTo(...place(points[to]));
      context.stroke();
    }
  }
  const radius = Math.max(Math.min(extent * 0.025, Math.max(size * 0.005, 3 * view.unit)), 1.2 * view.unit);
  points.forEach((point, index) => {
    if (!shown(point, view)) return;
    context.fillStyle = "#ffffff";
    dot(context, place(point), radius + Math.max(view.unit, radius * 0.3));
    context.fillStyle = about.points[index];
    dot(context, place(point), radius);
  });
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function frame(context, { box }, { color }, { scale, unit }) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  context.strokeStyle = color;
  context.lineWidth = 2 * unit;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

const apart = (one, other) => one[0] >= other[2] || other[0] >= one[2] || one[1] >= other[3] || other[1] >= one[3];

/** The first of some places [left, top] where a text covers no other, or null. */
function freePlace(places, wide, high, limits, taken) {
  return places.find(([left, top]) => {
    const mine = [left, top, left + wide, top + high];
    return left >= 0 && top >= 0 && mine[2] <= limits[0] && mine[3] <= limits[1] && taken.every((other) => apart(mine, other));
  }) || null;
}

const sizeOf = (context) => [context.canvas.width, context.canvas.height];

/** Name and score: above the box, in its top, in its bottom or below, where they cover no others if that can be had. */
function label(context, { box, score }, { name, color, ink }, { scale, unit }, taken) {
  const limits = sizeOf(context);
  const text = `${name} ${score.toFixed(2)}`;
  const letter = (limits[0] < 560 * unit ? 11 : 13) * unit;
  context.font = `600 ${letter}px system-ui, sans-serif`;
  const [wide, high] = [context.measureText(text).width + 0.7 * letter, Math.round(1.5 * letter)];
  const [x1, y1, , y2] = box.map((value) => value * scale);
  const left = Math.max(Math.min(x1 - unit, limits[0] - wide), 0);
  const tops = [y1 + unit - high, y1 - unit, y2 + unit - high, y2 - unit].map((top) => [left, top]);
  const within = tops.find(([, top]) => top >= 0) || [left, 0];
  const [x, y] = freePlace(tops, wide, high, limits, taken) || within;
  taken.push([x, y, x + wide, y + high]);
  context.fillStyle = color;
  context.fillRect(x, y, wide, high);
  context.fillStyle = ink;
  context.fillText(text, x + 0.35 * letter, y + high / 2 + unit / 2);
}

/** The name of each point beside it, with a rim that stands out from any background; where there is no room, none. */
function pointNames(context, { cls, points }, about, view, taken) {
  const letter = 11 * view.unit;
  context.font = `${letter}px system-ui, sans-serif`;
  Object.assign(context, { lineJoin: "round", lineWidth: 3 * view.unit, strokeStyle: "#181818", fillStyle: "#ffffff" });
  points.forEach((point, index) => {
    if (!shown(point, view)) return;
    const text = about.classes[cls].points[index];
    const wide = context.measureText(text).width;
    const [x, y, away] = [point[0] * view.scale, point[1] * view.scale, 7 * view.unit];
    const places = [[x + away, y - letter / 2], [x - away - wide, y - letter / 2], [x - wide / 2, y + away], [x - wide / 2, y - away - letter]];
    const place = freePlace(places, wide, letter, sizeOf(context), taken);
    if (!place) return;
    taken.push([place[0], place[1], place[0] + wide, place[1] + letter]);
    context.strokeText(text, place[0], place[1] + letter / 2);
    context.fillText(text, place[0], place[1] + letter / 2);
  });
}
