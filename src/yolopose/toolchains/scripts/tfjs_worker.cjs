// Runs a TensorFlow.js graph in Node.js with WebAssembly: `node tfjs_worker.cjs job.json`; the job has `path`, the folder
// of the graph, and `packages`, the folder node_modules. The protocol is the same as in worker_main.py.
"use strict";

const fs = require("fs");
const path = require("path");

const job = JSON.parse(fs.readFileSync(process.argv[2], "utf-8"));
const from = (name) => require(path.join(job.packages, "@tensorflow", name));
console.log = console.info = console.warn = console.error; // standard output is for messages only

function send(values, ...outputs) {
  const text = Buffer.from(JSON.stringify(values));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(text.length);
  const parts = outputs.map((output) => Buffer.from(output.buffer, output.byteOffset, output.byteLength));
  for (const part of [head, text, ...parts]) {
    for (let start = 0; start < part.length; ) {
      try {
        start += fs.writeSync(1, part, start);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error; // the pipe is full
      }
    }
  }
}

function read(count) {
  const buffer = Buffer.alloc(count);
  for (let start = 0; start < count; ) {
    let received = 0;
    try {
      received = fs.readSync(0, buffer, start, count - start, null);
    } catch (error) {
      if (error.code === "EAGAIN") continue;
      if (error.code !== "EOF") throw error;
    }
    if (received === 0) return null; // the other end is closed
    start += received;
  }
  return buffer;
}

async function main() {
  const tf = from("tfjs-core");
  const { loadGraphModel } = from("tfjs-converter");
  const wasm = from("tfjs-backend-wasm");
  wasm.setWasmPaths(path.join(job.packages, "@tensorflow", "tfjs-backend-wasm", "wasm-out") + path.sep);
  await tf.setBackend("wasm");
  await tf.ready();
  const model = await loadGraphModel({
    load: async () => {
      const graph = JSON.parse(fs.readFileSync(path.join(job.path, "model.json"), "utf-8"));
      const groups = graph.weightsManifest;
      const files = groups.flatMap((group) => group.paths).map((name) => fs.readFileSync(path.join(job.path, name)));
      const whole = Buffer.concat(files);
      return {
        modelTopology: graph.modelTopology,
        signature: graph.signature,
        weightSpecs: groups.flatMap((group) => group.weights),
        weightData: whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length),
      };
    },
  });
  const [batch, height, width, channels] = model.inputs[0].shape;
  send({ input: [batch, channels, height, width], output: model.outputs[0].shape });
  for (let head = read(4); head !== null; head = read(4)) {
    const [shape] = JSON.parse(read(head.readUInt32LE(0)).toString()).shapes;
    const bytes = read(4 * shape.reduce((product, side) => product * side, 1));
    const pixels = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const output = tf.tidy(() => model.predict(tf.transpose(tf.tensor(pixels, shape), [0, 2, 3, 1])));
    const values = await output.data();
    send({ shapes: [output.shape] }, values);
    output.dispose();
  }
}

main().catch((error) => {
  console.error(error.stack || String(error));
  console.error(String(error.message || error).split("\n")[0]); // the last line appears in the error message
  process.exit(1);
});
