// Images, videos and the camera: each becomes { kind, name, element, width, height }, or an error with plain words.

const CAMERA_ERRORS = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings for this page, then try again.",
  NotFoundError: "There is no camera on this device.",
  NotReadableError: "The camera is in use by another program. Close that, then try again.",
};

/** Opens a file: a video where its type says so, else an image. */
export async function openFile(file, video) {
  return file.type.startsWith("video/") ? openVideo(file, video) : openImage(file);
}

async function openImage(file) {
  try {
    // as the Python side reads it: turned as its camera was held, color profiles left aside
    const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const element = await createImageBitmap(file, options);
    return { kind: "image", name: file.name, element, width: element.width, height: element.height };
  } catch {
    throw new Error(`${file.name} cannot be shown: it is no image or video that this browser knows, or damaged. ` +
      "JPEG, PNG, WebP, MP4 and WebM work everywhere.");
  }
}

async function openVideo(file, video) {
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  try {
    await played(video);
  } catch {
    throw new Error(`${file.name} cannot be played by this browser. MP4 (H.264) and WebM work in most.`);
  }
  return { kind: "video", name: file.name, element: video, width: video.videoWidth, height: video.videoHeight };
}

/** Opens the camera: the one that looks away from the person first, where there are several. */
export async function openCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give the camera to pages from https:// or from localhost alone: open this page in one of these ways.");
  }
  try {
    const wanted = { video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
    await played(video);
  } catch (error) {
    throw new Error(CAMERA_ERRORS[error.name] || `The camera cannot be opened (${error.message || error.name}).`);
  }
  return { kind: "camera", name: "camera", element: video, width: video.videoWidth, height: video.videoHeight };
}

/** Begins to play, and waits until there is an image. */
async function played(video) {
  await video.play();
  if (!video.videoWidth) throw new Error("no image in it");
}

/** Lets go of what plays in an element. */
export function close(video) {
  video.pause();
  for (const track of video.srcObject?.getTracks() || []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

/** Waits for the next frame of a video that differs from the one before. */
export function nextFrame(video) {
  if (video.requestVideoFrameCallback) return new Promise((done) => video.requestVideoFrameCallback(done));
  const before = video.currentTime;
  return new Promise((done) => {
    const look = () => (video.currentTime === before ? requestAnimationFrame(look) : done());
    requestAnimationFrame(look);
  });
}
