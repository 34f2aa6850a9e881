// Where the image is shown, with what was found in it; tells which point is under a pointer.

import { draw, shown } from "./draw.js";

const TALL = 0.64; // of the window, at most
const REACH = 14; // pixels of the screen

export class Stage {
  /**
   * @param canvas that shows the image
   * @param tip element that names the point under the pointer
   * @param about record of the network
   */
  constructor(canvas, tip, about) {
    Object.assign(this, { canvas, tip, about, found: [], wishes: {}, size: null });
    this.taken = document.createElement("canvas"); // the frame that the objects belong to
    this.pen = this.taken.getContext("2d", { willReadFrequently: true });
    new ResizeObserver(() => this.paint()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => this.name(event));
    canvas.addEventListener("pointerdown", (event) => this.name(event));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  /** Takes the present frame of a source; returns its pixels for the engine. */
  take({ element, width, height }) {
    Object.assign(this.taken, { width, height });
    let pixels;
    try {
      this.pen.drawImage(element, 0, 0, width, height);
      pixels = this.pen.getImageData(0, 0, width, height).data.buffer;
    } catch {
      throw new Error(`An image of ${width} × ${height} is too large for this browser. Make it smaller first.`);
    }
    this.size = { width, height };
    return { width, height, pixels };
  }

  /** Shows the frame that was taken, with objects in it. */
  show(found) {
    this.found = found;
    this.paint();
  }

  paint() {
    if (!this.size) return;
    const { width, height } = this.size;
    const room = this.canvas.parentElement.clientWidth;
    const most = Math.max(window.innerHeight * TALL, 260);
    const fits = Math.min(room / width, most / height);
    const unit = window.devicePixelRatio || 1;
    this.canvas.style.width = `${width * fits}px`;
    this.canvas.style.height = `${height * fits}px`;
    this.canvas.width = Math.round(width * fits * unit);
    this.canvas.height = Math.round(height * fits * unit);
    this.view = { width, height, scale: this.canvas.width / width, unit };
    const context = this.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.taken, 0, 0, this.canvas.width, this.canvas.height);
    draw(context, this.found, this.about, this.view, this.wishes);
  }

  /** Names the point next to the pointer. */
  name(event) {
    const { scale, unit } = this.view || {};
    const at = ([x, y]) => [x * scale / unit, y * scale / unit];
    let [best, least] = [null, REACH];
    for (const one of this.wishes.points ? this.found : []) {
      one.points.forEach((point, index) => {
        const [x, y] = at(point);
        const far = Math.hypot(x - event.offsetX, y - event.offsetY);
        if (shown(point, this.view) && far < least) [best, least] = [{ one, point, index }, far];
      });
    }
    this.tip.hidden = !best;
    if (!best) return;
    const { one, point, index } = best;
    const sure = point[2] === undefined ? "" : ` ${point[2].toFixed(2)}`;
    this.tip.textContent = `${this.about.classes[one.cls].points[index]}${sure}`;
    const [x, y] = at(point);
    this.tip.style.left = `${this.canvas.offsetLeft + x}px`;
    this.tip.style.top = `${this.canvas.offsetTop + y}px`;
  }
}
