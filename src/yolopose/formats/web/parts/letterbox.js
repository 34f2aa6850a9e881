// Letterbox: position and pixels of an image in the network's input, and back; equal to the Python package.

const GRAY = 114;
const BITS = 11; // fixed-point bits of OpenCV's interpolation weights

/** Rounds halves to even, as Python does. */
export function roundEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/**
 * Returns the letterbox of an image in an input; all sizes are [height, width] in pixels.
 *
 * @param source size of the image
 * @param target size to fit into
 * @param stride pad only to its next multiple (free input size); 0: pad to the whole target
 * @returns inner (size of the scaled image), top, left (its position), out (size of the input)
 */
export function fit(source, target, stride = 0) {
  const ratio = Math.min(target[0] / source[0], target[1] / source[1]);
  const inner = source.map((side) => Math.max(1, roundEven(side * ratio)));
  const padding = target.map((side, axis) => (stride ? (side - inner[axis]) % stride : side - inner[axis]));
  const [top, left] = padding.map((side) => roundEven(side / 2 - 0.1));
  const [bottom, right] = padding.map((side) => roundEven(side / 2 + 0.1));
  return { source, inner, top, left, out: [inner[0] + top + bottom, inner[1] + left + right] };
}

/**
 * Writes an image into the network's input: planes of red, green and blue, 0…1, resized as OpenCV's INTER_LINEAR does.
 *
 * @param pixels Uint8 RGBA of the image, as from a canvas
 * @param letterbox result of `fit`
 * @param planes Float32Array of 3 · height · width to fill
 */
export function fill(pixels, letterbox, planes) {
  const { source, inner, top, left, out } = letterbox;
  const size = out[0] * out[1];
  planes.fill(GRAY / 255);
  const horizontal = weights(inner[1], source[1], 4);
  const vertical = weights(inner[0], source[0], source[1] * 4);
  const above = new Int32Array(inner[1] * 3);
  const below = new Int32Array(inner[1] * 3);
  let cached = [-1, -1]; // rows of the image in `above` and `below`
  let rows = [above, below];
  for (let y = 0; y < inner[0]; y += 1) {
    const wanted = [vertical.first[y], vertical.second[y]];
    if (cached[1] === wanted[0]) {
      rows = [rows[1], rows[0]];
      cached = [cached[1], cached[0]];
    }
    for (const end of [0, 1]) {
      if (cached[end] !== wanted[end]) blendRow(pixels, wanted[end], horizontal, rows[end]);
      cached[end] = wanted[end];
    }
    const [upper, lower] = rows;
    const [weightUpper, weightLower] = [vertical.before[y], vertical.after[y]];
    let at = (top + y) * out[1] + left;
    for (let x = 0; x < upper.length; x += 3, at += 1) {
      planes[at] = blendColumn(upper[x], lower[x], weightUpper, weightLower);
      planes[at + size] = blendColumn(upper[x + 1], lower[x + 1], weightUpper, weightLower);
      planes[at + 2 * size] = blendColumn(upper[x + 2], lower[x + 2], weightUpper, weightLower);
    }
  }
}

/** Returns, for each position along a side, the offsets of its two neighbors and their weights in 1/2048. */
function weights(length, source, step) {
  const table = {
    first: new Int32Array(length), second: new Int32Array(length),
    before: new Int32Array(length), after: new Int32Array(length),
  };
  const scale = source / length;
  for (let index = 0; index < length; index += 1) {
    const middle = Math.fround((index + 0.5) * scale - 0.5);
    const low = Math.floor(middle);
    const share = Math.fround(middle - low);
    table.first[index] = Math.max(low, 0) * step; // edge pixels are repeated
    table.second[index] = Math.min(low + 1, source - 1) * step;
    table.before[index] = roundEven(Math.fround(1 - share) * (1 << BITS));
    table.after[index] = roundEven(share * (1 << BITS));
  }
  return table;
}

/** Blends along one row of the image; the sums are scaled by 2048. */
function blendRow(pixels, row, { first, second, before, after }, sums) {
  for (let x = 0, at = 0; x < first.length; x += 1, at += 3) {
    const [left, right, weightLeft, weightRight] = [row + first[x], row + second[x], before[x], after[x]];
    sums[at] = pixels[left] * weightLeft + pixels[right] * weightRight;
    sums[at + 1] = pixels[left + 1] * weightLeft + pixels[right + 1] * weightRight;
    sums[at + 2] = pixels[left + 2] * weightLeft + pixels[right + 2] * weightRight;
  }
}

/** Blends two sums of a column to a value 0…1, with the intermediate rounding of OpenCV. */
function blendColumn(upper, lower, weightUpper, weightLower) {
  return ((((weightUpper * (upper >> 4)) >> 16) + ((weightLower * (lower >> 4)) >> 16) + 2) >> 2) / 255;
}

/** Maps a coordinate of the input to the image, in single precision; axis 0 is y, 1 is x. */
export function toImage(value, axis, letterbox) {
  const shift = axis ? letterbox.left : letterbox.top;
  const gain = Math.fround(letterbox.inner[axis] / letterbox.source[axis]);
  const coordinate = Math.fround(Math.fround(value - shift) / gain);
  return Math.min(Math.max(coordinate, 0), letterbox.source[axis]);
}
