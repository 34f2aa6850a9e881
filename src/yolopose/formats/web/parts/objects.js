// From the network's output to objects: threshold, suppression of duplicates, the way back to the image. The numbers
// are those of yolopose's Python side, in single precision as there.

import { back } from "./letterbox.js";

const single = Math.fround;

/**
 * Finds the objects in an output.
 *
 * @param output { data: Float32Array, dims: [1, rows, columns] }
 * @param about record of the network: classes, kpt_shape, end2end, iou, max_det
 * @param conf scores must exceed it
 * @param place where the image lies in the input, as `fit` gives it
 * @returns list, by falling score, of { box: [x1, y1, x2, y2], score, cls, points: [[x, y] or [x, y, confidence]] },
 *   in pixels of the image
 */
export function objects(output, about, conf, place) {
  const found = about.end2end ? finished(output, about, single(conf)) : cells(output, about, single(conf));
  found.sort((one, other) => other.score - one.score);
  const kept = about.end2end ? found.slice(0, about.max_det) : suppress(found, single(about.iou), about.max_det);
  return kept.map((one) => ({
    ...one,
    box: one.box.map((value, index) => back(value, index % 2 ? 0 : 1, place)),
    points: one.points.map(([x, y, ...rest]) => [back(x, 1, place), back(y, 0, place), ...rest]),
  }));
}

/** Every cell of (1, 4+nc+K·D, A) whose best class scores above the threshold. */
function cells({ data, dims }, about, conf) {
  const [count, nc] = [dims[2], about.classes.length];
  const found = [];
  for (let cell = 0; cell < count; cell += 1) {
    let [score, cls] = [data[4 * count + cell], 0];
    for (let other = 1; other < nc; other += 1) {
      const value = data[(4 + other) * count + cell];
      if (value > score) [score, cls] = [value, other];
    }
    if (!(score > conf)) continue;
    const at = (row) => data[row * count + cell];
    const [x, y, halfWidth, halfHeight] = [at(0), at(1), single(at(2) / 2), single(at(3) / 2)];
    const box = [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight].map(single);
    found.push({ box, score, cls, points: points((index) => at(4 + nc + index), about.kpt_shape) });
  }
  return found;
}

/** The rows of (1, N, 6+K·D) that score above the threshold: the network, or its file, has suppressed duplicates. */
function finished({ data, dims }, about, conf) {
  const found = [];
  for (let row = 0; row < dims[1]; row += 1) {
    const at = (column) => data[row * dims[2] + column];
    if (!(at(4) > conf)) continue;
    const box = [at(0), at(1), at(2), at(3)];
    found.push({ box, score: at(4), cls: Math.trunc(at(5)), points: points((index) => at(6 + index), about.kpt_shape) });
  }
  return found;
}

function points(at, [count, dims]) {
  return Array.from({ length: count }, (_, point) => Array.from({ length: dims }, (_, axis) => at(point * dims + axis)));
}

/** Greedy suppression: an object goes when its box overlaps a kept one of its class by more than `iou`. */
function suppress(found, iou, most) {
  const kept = [];
  for (const one of found) {
    if (kept.length === most) break;
    if (!kept.some((other) => other.cls === one.cls && overlap(other.box, one.box) > iou)) kept.push(one);
  }
  return kept;
}

/** Intersection over union; NaN, which exceeds nothing, for two boxes without area. */
function overlap(one, other) {
  const width = Math.max(single(Math.min(one[2], other[2]) - Math.max(one[0], other[0])), 0);
  const height = Math.max(single(Math.min(one[3], other[3]) - Math.max(one[1], other[1])), 0);
  const common = single(width * height);
  return single(common / single(single(area(one) + area(other)) - common));
}

const area = (box) => single(single(box[2] - box[0]) * single(box[3] - box[1]));
