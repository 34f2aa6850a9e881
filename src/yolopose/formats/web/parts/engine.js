// Interface of the page to the worker: one request at a time, one response for each.

export class Engine {
  /**
   * Starts a worker with the network.
   *
   * @param metadata content of model.json
   * @param name wasm or webgpu
   * @param progress called with the loaded share 0…1 of the files
   */
  static async start(metadata, name, progress) {
    const engine = new Engine();
    try {
      engine.info = await engine.request({ start: { metadata, engine: name } }, [], progress);
    } catch (error) {
      engine.stop();
      throw error;
    }
    return engine;
  }

  constructor() {
    // a worker from a blob inherits the page's Content-Security-Policy, one from a URL has none
    const start = new Blob([`import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(start), { type: "module" });
    this.queue = Promise.resolve();
  }

  /** Returns the detections in { width, height, pixels }; the pixels are transferred to the worker. */
  detect(frame, conf) {
    return this.request({ frame, conf }, [frame.pixels]);
  }

  /** Returns the detections in the latest frame above another threshold. */
  filter(conf) {
    return this.request({ filter: conf });
  }

  stop() {
    this.worker.terminate();
  }

  request(message, transfer = [], progress = () => {}) {
    const response = this.queue.then(() => this.send(message, transfer, progress));
    this.queue = response.catch(() => {});
    return response;
  }

  send(message, transfer, progress) {
    return new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message ||
        "worker.js, or a file that it imports, is missing beside this page. Copy the whole folder to the server."));
      this.worker.onmessage = ({ data }) => {
        if (data.progress) progress(loadedShare(data.progress));
        else if (data.error) reject(new Error(data.error));
        else resolve(data.ready || data);
      };
      this.worker.postMessage(message, transfer);
    });
  }
}

/** Returns the loaded share 0…1 of the files; NaN if the server does not send their sizes. */
function loadedShare(files) {
  const [loaded, total] = [0, 1].map((index) => files.reduce((sum, file) => sum + file[index], 0));
  return files.every(([, size]) => size) ? loaded / total : NaN;
}

/** Returns the engines that can run a network here, the fastest first. */
export async function availableEngines(metadata) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  // WebGPU has no 8-bit operators; a browser without a GPU may offer a slow emulation
  const isEmulated = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  const supported = adapter && !isEmulated && metadata.bits !== 8 && (metadata.bits !== 16 || adapter.features.has("shader-f16"));
  return supported ? ["webgpu", "wasm"] : ["wasm"];
}
