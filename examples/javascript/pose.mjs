// Pose estimation in one image with Node.js and onnxruntime-node.
//
//   yolo export model=yolo11n-pose.pt format=web imgsz=640
//   npm install && node pose.mjs yolo11n-pose_web_page bus.jpg [CONF]
//
// Node.js 20.19 or newer. The folder that `format=web` writes has the network, its metadata and the modules for letterbox and NMS, which are also
// used here. Prints one line of JSON per detection, in pixels of the image. docs/deploying.md explains each step.
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import * as ort from "onnxruntime-node";
import sharp from "sharp";

async function main([folder, imagePath, confText = "0.25"]) {
  if (!imagePath) throw new Error("usage: node pose.mjs FOLDER IMAGE [CONF]");
  const module = (name) => import(pathToFileURL(resolve(folder, name)));
  const [{ fill, fit }, { postprocess }] = await Promise.all(["letterbox.js", "postprocess.js"].map(module));
  const metadata = JSON.parse(await readFile(resolve(folder, "model.json"), "utf8"));
  const session = await ort.InferenceSession.create(resolve(folder, metadata.file ?? "model.onnx"));

  const image = sharp(imagePath).rotate().toColorspace("srgb").ensureAlpha(); // rotate() applies the EXIF orientation
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const letterbox = fit([info.height, info.width], metadata.imgsz);
  const [height, width] = letterbox.out;
  const planes = new Float32Array(3 * height * width);
  fill(data, letterbox, planes);

  const outputs = await session.run({ images: new ort.Tensor("float32", planes, [1, 3, height, width]) });
  const detections = postprocess(outputs[session.outputNames[0]], metadata, Number(confText), letterbox);
  for (const { box, score, cls, points } of detections) {
    const { name, points: names } = metadata.classes[cls];
    const keypoints = Object.fromEntries(points.map((point, index) => [names[index] ?? index, point]));
    console.log(JSON.stringify({ class: name, score, box, keypoints }));
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
