// The camera of this computer, whose picture is classified again and again.

import { Refused } from "./server.js";

const JPEG_QUALITY = 0.9;
const PAUSE_MS = 200; // between an answer and the next picture, so that the server has time for others
const SIDE = 1280; // pixels of the longer side; more would only take longer to send

/** Whether this browser lets this page use a camera: only on this machine, or over HTTPS. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

export class LiveCamera {
  /** @param {(picture: Blob) => Promise<void>} classify shows the labels of a picture. */
  constructor(video, classify) {
    Object.assign(this, { video, classify });
    this.stream = null;
  }

  async start() {
    const wanted = { width: { ideal: SIDE }, facingMode: { ideal: "environment" } };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch (error) {
      throw new Refused(`The camera cannot be used: ${error.message}. Allow it for this page, then try again.`);
    }
    this.stop();
    this.stream = stream;
    this.video.srcObject = stream;
    this.video.hidden = false;
    await this.video.play();
    this.#watch(stream);
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
    this.video.hidden = true;
  }

  /** The picture of this moment, as a JPEG file. */
  async picture() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, SIDE / Math.max(videoWidth, videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(videoWidth * scale);
    canvas.height = Math.round(videoHeight * scale);
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
    return new File([blob], "camera.jpg", { type: "image/jpeg" });
  }

  async #watch(stream) {
    while (this.stream === stream) {
      await this.classify(await this.picture());
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
