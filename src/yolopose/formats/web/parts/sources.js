// Opens images, videos and the camera as { kind, name, element, width, height }; errors have messages for users.

const CAMERA_ERRORS = {
  NotAllowedError: "Access to the camera was denied. Allow it in the browser's settings for this page, then try again.",
  NotFoundError: "No camera was found on this device.",
  NotReadableError: "The camera is in use by another program. Close that, then try again.",
};

/** Opens a file, as a video if it has a video type, else as an image. */
export async function openFile(file, video) {
  return file.type.startsWith("video/") ? openVideo(file, video) : openImage(file);
}

async function openImage(file) {
  try {
    // as the Python package reads it: rotated as in EXIF, color profiles ignored
    const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const element = await createImageBitmap(file, options);
    return { kind: "image", name: file.name, element, width: element.width, height: element.height };
  } catch {
    throw new Error(`${file.name} cannot be opened: it is damaged, or not an image or video that this browser supports. ` +
      "JPEG, PNG, WebP, MP4 and WebM work everywhere.");
  }
}

async function openVideo(file, video) {
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  try {
    await startVideo(video);
  } catch {
    throw new Error(`${file.name} cannot be played by this browser. MP4 (H.264) and WebM work in most.`);
  }
  return { kind: "video", name: file.name, element: video, width: video.videoWidth, height: video.videoHeight };
}

/** Opens the camera; the rear one if there are several. */
export async function openCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers allow the camera only on pages from https:// or localhost: open this page from one of these.");
  }
  try {
    const wanted = { video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await startVideo(video);
  } catch (error) {
    throw new Error(CAMERA_ERRORS[error.name] || `The camera cannot be opened (${error.message || error.name}).`);
  }
  return { kind: "camera", name: "camera", element: video, width: video.videoWidth, height: video.videoHeight };
}

/** Starts a video and waits for its first frame. */
async function startVideo(video) {
  await video.play();
  if (!video.videoWidth) throw new Error("it has no video track");
}

/** Stops and releases the source of an element. */
export function close(video) {
  video.pause();
  for (const track of video.srcObject?.getTracks() || []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

/** Waits for the next frame of a video. */
export function nextFrame(video) {
  if (video.requestVideoFrameCallback) return new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  const previous = video.currentTime;
  return new Promise((resolve) => {
    const check = () => (video.currentTime === previous ? requestAnimationFrame(check) : resolve());
    requestAnimationFrame(check);
  });
}
