// Draws objects as yolopose's Python side does: limbs with a dark rim, points, boxes with names, the surest on top.

const VISIBLE = 0.25; // points of lower confidence are not drawn

/** Whether a point of an object is drawn in a picture of this size. */
export function shown([x, y, confidence], { width, height }) {
  const inside = x >= 0 && x <= width && y >= 0 && y <= height && (x > 0 || y > 0);
  return inside && (confidence === undefined || confidence >= VISIBLE);
}

/**
 * Draws objects.
 *
 * @param context of a canvas that shows the whole picture
 * @param found list of objects, pixels of the picture
 * @param about record of the network
 * @param view { width, height } of the picture, `scale` from it to the canvas, `unit` canvas pixels of one on the screen
 * @param wishes { boxes, points, names }: what is drawn
 */
export function draw(context, found, about, view, wishes) {
  const size = Math.sqrt(view.width * view.height) * view.scale;
  for (const one of [...found].reverse()) {
    if (wishes.points) skeleton(context, one, about, view, size);
    if (wishes.boxes) frame(context, one, about.classes[one.cls], view);
  }
  context.textBaseline = "middle";
  if (wishes.names) for (const one of found) pointNames(context, one, about, view);
  if (wishes.boxes) for (const one of [...found].reverse()) label(context, one, about.classes[one.cls], view);
}

function skeleton(context, { box, points }, about, view, size) {
  const extent = Math.sqrt((box[2] - box[0]) * (box[3] - box[1])) * view.scale;
  const place = ([x, y]) => [x * view.scale, y * view.scale];
  const limbs = about.limbs.filter(([from, to]) => shown(points[from], view) && shown(points[to], view));
  const width = Math.max(Math.min(extent / 60, Math.max(size * 0.003, 2 * view.unit)), view.unit);
  context.lineCap = "round";
  for (const [extra, paint] of [[Math.max(2 * view.unit, width * 0.8), "#181818"], [0, null]]) {
    context.lineWidth = width + extra;
    for (const [from, to, colour] of limbs) {
      context.strokeStyle = paint || colour;
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

function frame(context, { box }, { colour }, { scale, unit }) {
  const [x1, y1, x2, y2] = box.map((value) => value * scale);
  context.strokeStyle = colour;
  context.lineWidth = 2 * unit;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

/** Name and score: above the box, or inside it where there is no room above. */
function label(context, { box, score }, { name, colour, ink }, { scale, unit, width }) {
  const text = `${name} ${score.toFixed(2)}`;
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const [wide, high] = [context.measureText(text).width + 10 * unit, 20 * unit];
  const left = Math.max(Math.min(box[0] * scale - unit, width * scale - wide), 0);
  const above = box[1] * scale + unit - high;
  const top = above >= 0 ? above : box[1] * scale;
  context.fillStyle = colour;
  context.fillRect(left, top, wide, high);
  context.fillStyle = ink;
  context.fillText(text, left + 5 * unit, top + high / 2 + unit / 2);
}

/** The name of each point beside it, with a rim that stands out from any background. */
function pointNames(context, { cls, points }, about, view) {
  context.font = `${11 * view.unit}px system-ui, sans-serif`;
  context.lineJoin = "round";
  points.forEach((point, index) => {
    if (!shown(point, view)) return;
    const place = [about.classes[cls].points[index], point[0] * view.scale + 7 * view.unit, point[1] * view.scale];
    context.strokeStyle = "#181818";
    context.lineWidth = 3 * view.unit;
    context.strokeText(...place);
    context.fillStyle = "#ffffff";
    context.fillText(...place);
  });
}
