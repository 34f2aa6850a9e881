// Shows a frame with its detections, and the name of the keypoint under the pointer.

import { draw, isVisible } from "./draw.js";

const MAX_HEIGHT = 0.64; // share of the window
const POINTER_DISTANCE = 14; // CSS pixels

export class Stage {
  /**
   * @param canvas that shows the image
   * @param tip element that shows the name of the keypoint under the pointer
   * @param metadata content of model.json
   */
  constructor(canvas, tip, metadata) {
    Object.assign(this, { canvas, tip, metadata, detections: [], settings: {}, size: null });
    this.frame = document.createElement("canvas"); // the frame of the detections
    this.frameContext = this.frame.getContext("2d", { willReadFrequently: true });
    new ResizeObserver(() => this.paint()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => this.showTip(event));
    canvas.addEventListener("pointerdown", (event) => this.showTip(event));
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  /** Captures the current frame of a source and returns its pixels for the engine. */
  capture({ element, width, height }) {
    Object.assign(this.frame, { width, height });
    let pixels;
    try {
      this.frameContext.drawImage(element, 0, 0, width, height);
      pixels = this.frameContext.getImageData(0, 0, width, height).data.buffer;
    } catch {
      throw new Error(`An image of ${width} × ${height} is too large for this browser. Make it smaller first.`);
    }
    this.size = { width, height };
    return { width, height, pixels };
  }

  /** Shows the captured frame with its detections. */
  show(detections) {
    this.detections = detections;
    this.paint();
  }

  paint() {
    if (!this.size) return;
    const { width, height } = this.size;
    const maxWidth = this.canvas.parentElement.clientWidth;
    const maxHeight = Math.max(window.innerHeight * MAX_HEIGHT, 260);
    const scale = Math.min(maxWidth / width, maxHeight / height);
    const unit = window.devicePixelRatio || 1;
    this.canvas.style.width = `${width * scale}px`;
    this.canvas.style.height = `${height * scale}px`;
    this.canvas.width = Math.round(width * scale * unit);
    this.canvas.height = Math.round(height * scale * unit);
    this.view = { width, height, scale: this.canvas.width / width, unit };
    const context = this.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.frame, 0, 0, this.canvas.width, this.canvas.height);
    draw(context, this.detections, this.metadata, this.view, this.settings);
  }

  /** Shows the name of the keypoint nearest to the pointer. */
  showTip(event) {
    const { scale, unit } = this.view || {};
    const toCss = ([x, y]) => [x * scale / unit, y * scale / unit];
    let best = null;
    let minDistance = POINTER_DISTANCE;
    for (const detection of this.settings.points ? this.detections : []) {
      detection.points.forEach((point, index) => {
        const [x, y] = toCss(point);
        const distance = Math.hypot(x - event.offsetX, y - event.offsetY);
        if (isVisible(point, this.view) && distance < minDistance) {
          best = { detection, point, index };
          minDistance = distance;
        }
      });
    }
    this.tip.hidden = !best;
    if (!best) return;
    const { detection, point, index } = best;
    const confidence = point[2] === undefined ? "" : ` ${point[2].toFixed(2)}`;
    this.tip.textContent = `${this.metadata.classes[detection.cls].points[index]}${confidence}`;
    const [x, y] = toCss(point);
    this.tip.style.left = `${this.canvas.offsetLeft + x}px`;
    this.tip.style.top = `${this.canvas.offsetTop + y}px`;
  }
}
