// Where an image lies in the network's input, its pixels there, and the way back: the rules of yolopose's Python side.

const GRAY = 114;
const BITS = 11; // of the weights with which OpenCV blends pixels

/** Rounds a half to the even number, as Python does. */
export function roundEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/**
 * Fits an image into an input; all sizes are [height, width] in pixels.
 *
 * @param source size of the image
 * @param target size to fit into
 * @param stride pad to its next multiple alone (an input of any size); 0: pad to the whole target
 * @returns inner (the scaled image), top, left (its place), out (the whole input)
 */
export function fit(source, target, stride = 0) {
  const ratio = Math.min(target[0] / source[0], target[1] / source[1]);
  const inner = source.map((side) => Math.max(1, roundEven(side * ratio)));
  const spare = target.map((side, axis) => (stride ? (side - inner[axis]) % stride : side - inner[axis]));
  const [top, left] = spare.map((side) => roundEven(side / 2 - 0.1));
  const [bottom, right] = spare.map((side) => roundEven(side / 2 + 0.1));
  return { source, inner, top, left, out: [inner[0] + top + bottom, inner[1] + left + right] };
}

/**
 * Writes an image into the network's input: planes of red, green and blue, 0…1, resized as OpenCV's INTER_LINEAR does.
 *
 * @param pixels Uint8 RGBA of the image, as a canvas gives it
 * @param place what `fit` gave
 * @param planes Float32Array of 3 · height · width to fill
 */
export function fill(pixels, place, planes) {
  const { source, inner, top, left, out } = place;
  const size = out[0] * out[1];
  planes.fill(GRAY / 255);
  const across = blend(inner[1], source[1], 4);
  const down = blend(inner[0], source[0], source[1] * 4);
  const above = new Int32Array(inner[1] * 3);
  const below = new Int32Array(inner[1] * 3);
  let held = [-1, -1]; // which rows of the image the two hold
  let rows = [above, below];
  for (let y = 0; y < inner[0]; y += 1) {
    const wanted = [down.first[y], down.second[y]];
    if (held[1] === wanted[0]) {
      rows = [rows[1], rows[0]];
      held = [held[1], held[0]];
    }
    for (const end of [0, 1]) {
      if (held[end] !== wanted[end]) widen(pixels, wanted[end], across, rows[end]);
      held[end] = wanted[end];
    }
    const [one, two] = rows;
    const [high, low] = [down.before[y], down.after[y]];
    let at = (top + y) * out[1] + left;
    for (let x = 0; x < one.length; x += 3, at += 1) {
      planes[at] = mix(one[x], two[x], high, low);
      planes[at + size] = mix(one[x + 1], two[x + 1], high, low);
      planes[at + 2 * size] = mix(one[x + 2], two[x + 2], high, low);
    }
  }
}

/** For each place along a side: offsets of the two pixels that it lies between, and their weights in 1/2048. */
function blend(length, source, step) {
  const found = {
    first: new Int32Array(length), second: new Int32Array(length),
    before: new Int32Array(length), after: new Int32Array(length),
  };
  const scale = source / length;
  for (let index = 0; index < length; index += 1) {
    const middle = Math.fround((index + 0.5) * scale - 0.5);
    const low = Math.floor(middle);
    const share = Math.fround(middle - low);
    found.first[index] = Math.max(low, 0) * step; // beyond the edge lies the edge
    found.second[index] = Math.min(low + 1, source - 1) * step;
    found.before[index] = roundEven(Math.fround(1 - share) * (1 << BITS));
    found.after[index] = roundEven(share * (1 << BITS));
  }
  return found;
}

/** Blends along one row of the image; the sums stay 2048 times as large. */
function widen(pixels, row, { first, second, before, after }, sums) {
  for (let x = 0, at = 0; x < first.length; x += 1, at += 3) {
    const [one, two, high, low] = [row + first[x], row + second[x], before[x], after[x]];
    sums[at] = pixels[one] * high + pixels[two] * low;
    sums[at + 1] = pixels[one + 1] * high + pixels[two + 1] * low;
    sums[at + 2] = pixels[one + 2] * high + pixels[two + 2] * low;
  }
}

/** Blends two sums of a column into a value 0…1, rounding where OpenCV does. */
function mix(one, two, high, low) {
  return ((((high * (one >> 4)) >> 16) + ((low * (two >> 4)) >> 16) + 2) >> 2) / 255;
}

/** Takes a coordinate of the input back to the image, in single precision; axis 0 is y, 1 is x. */
export function back(value, axis, place) {
  const shift = axis ? place.left : place.top;
  const gain = Math.fround(place.inner[axis] / place.source[axis]);
  const found = Math.fround(Math.fround(value - shift) / gain);
  return Math.min(Math.max(found, 0), place.source[axis]);
}
