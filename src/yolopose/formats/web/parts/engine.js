// The page's end of the worker: one question at a time, one answer for each.

export class Engine {
  /**
   * Starts a worker with the network.
   *
   * @param record of the network
   * @param name wasm or webgpu
   * @param progress called with a share 0…1 while files come in
   */
  static async start(record, name, progress) {
    const engine = new Engine();
    try {
      engine.about = await engine.ask({ start: { record, engine: name } }, [], progress);
    } catch (error) {
      engine.stop();
      throw error;
    }
    return engine;
  }

  constructor() {
    // a worker made of text is bound to the page's Content-Security-Policy, one made of an address would have none
    const start = new Blob([`import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(start), { type: "module" });
    this.waiting = Promise.resolve();
  }

  /** Finds the objects of { width, height, pixels }; the pixels are given away. */
  look(frame, conf) {
    return this.ask({ frame, conf }, [frame.pixels]);
  }

  /** Finds the objects of the latest image above another threshold. */
  again(conf) {
    return this.ask({ again: conf });
  }

  stop() {
    this.worker.terminate();
  }

  ask(question, gifts = [], progress = () => {}) {
    const answer = this.waiting.then(() => this.answer(question, gifts, progress));
    this.waiting = answer.catch(() => {});
    return answer;
  }

  answer(question, gifts, progress) {
    return new Promise((done, failed) => {
      this.worker.onerror = (event) => failed(new Error(event.message ||
        "worker.js, or a file that it names, is missing beside this page. Copy the whole folder to the server."));
      this.worker.onmessage = ({ data }) => {
        if (data.progress) progress(share(data.progress));
        else if (data.error) failed(new Error(data.error));
        else done(data.ready || data);
      };
      this.worker.postMessage(question, gifts);
    });
  }
}

/** Share 0…1 of some files that has come; NaN where the server does not tell their sizes. */
function share(files) {
  const [come, all] = [0, 1].map((index) => files.reduce((sum, file) => sum + file[index], 0));
  return files.every(([, size]) => size) ? come / all : NaN;
}

/** Returns which engines can run a network here, the best first. */
export async function engines(record) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  // 8-bit operators have no place on the GPU; a browser without one may offer a slow imitation
  const imitation = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  const fits = adapter && !imitation && record.bits !== 8 && (record.bits !== 16 || adapter.features.has("shader-f16"));
  return fits ? ["webgpu", "wasm"] : ["wasm"];
}
