// Turns the network's output into detections: threshold, NMS, image coordinates. Results equal those of the Python
// package, which computes in single precision too.

import { toImage } from "./letterbox.js";

const single = Math.fround;

/**
 * Returns the detections in an output.
 *
 * @param output { data: Float32Array, dims: [1, rows, columns] }
 * @param metadata content of model.json: classes, kpt_shape, end2end, iou, max_det
 * @param conf scores must exceed it
 * @param letterbox result of `fit`
 * @returns list, sorted by falling score, of { box: [x1, y1, x2, y2], score, cls, points: [[x, y] or [x, y, confidence]] },
 *   in image pixels
 */
export function postprocess(output, metadata, conf, letterbox) {
  const { end2end, iou, max_det: maxDet } = metadata;
  const read = end2end ? readDetections : readAnchors;
  const candidates = read(output, metadata, single(conf));
  candidates.sort((a, b) => b.score - a.score);
  const kept = end2end ? candidates.slice(0, maxDet) : nms(candidates, single(iou), maxDet);
  return kept.map((detection) => ({
    ...detection,
    box: detection.box.map((value, index) => toImage(value, index % 2 ? 0 : 1, letterbox)),
    points: detection.points.map(([x, y, ...rest]) => [toImage(x, 1, letterbox), toImage(y, 0, letterbox), ...rest]),
  }));
}

/** Returns the anchors of (1, 4+nc+K·D, A) whose best class scores above the threshold. */
function readAnchors({ data, dims }, metadata, conf) {
  const [count, nc] = [dims[2], metadata.classes.length];
  const candidates = [];
  for (let anchor = 0; anchor < count; anchor += 1) {
    let [score, cls] = [data[4 * count + anchor], 0];
    for (let other = 1; other < nc; other += 1) {
      const value = data[(4 + other) * count + anchor];
      if (value > score) [score, cls] = [value, other];
    }
    if (!(score > conf)) continue;
    const at = (row) => data[row * count + anchor];
    const [x, y, halfWidth, halfHeight] = [at(0), at(1), single(at(2) / 2), single(at(3) / 2)];
    const box = [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight].map(single);
    candidates.push({ box, score, cls, points: readPoints((index) => at(4 + nc + index), metadata.kpt_shape) });
  }
  return candidates;
}

/** Returns the rows of (1, N, 6+K·D), the output after NMS, that score above the threshold. */
function readDetections({ data, dims }, metadata, conf) {
  const detections = [];
  for (let row = 0; row < dims[1]; row += 1) {
    const at = (column) => data[row * dims[2] + column];
    if (!(at(4) > conf)) continue;
    const box = [at(0), at(1), at(2), at(3)];
    const points = readPoints((index) => at(6 + index), metadata.kpt_shape);
    detections.push({ box, score: at(4), cls: Math.trunc(at(5)), points });
  }
  return detections;
}

function readPoints(at, [count, dims]) {
  return Array.from({ length: count }, (_, point) => Array.from({ length: dims }, (_, axis) => at(point * dims + axis)));
}

/** Greedy NMS: drops boxes whose IoU with a kept box of their class exceeds the limit. */
function nms(candidates, limit, maxDet) {
  const kept = [];
  for (const candidate of candidates) {
    if (kept.length === maxDet) break;
    if (!kept.some(({ cls, box }) => cls === candidate.cls && iou(box, candidate.box) > limit)) kept.push(candidate);
  }
  return kept;
}

/** Intersection over union; NaN, which exceeds no limit, for two boxes without area. */
function iou(a, b) {
  const width = Math.max(single(Math.min(a[2], b[2]) - Math.max(a[0], b[0])), 0);
  const height = Math.max(single(Math.min(a[3], b[3]) - Math.max(a[1], b[1])), 0);
  const intersection = single(width * height);
  return single(intersection / single(single(area(a) + area(b)) - intersection));
}

const area = (box) => single(single(box[2] - box[0]) * single(box[3] - box[1]));
