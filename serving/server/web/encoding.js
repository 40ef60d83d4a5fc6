// Encodes what is sent: a region of an image, or a file of a format that models do not decode.

const LOSSLESS_PIXELS = 1 << 20; // larger images are sent as JPEG
const JPEG_QUALITY = 0.95;
const DECODED = ["image/jpeg", "image/png", "image/gif", "image/bmp", "image/webp"]; // by the models

/** What the model sees: it turns a JPEG by its Exif orientation, and files of no other format. */
export const orientation = (file) => (file.type === "image/jpeg" ? "from-image" : "none");

/** A part of an image as PNG or JPEG; null where this browser cannot encode it. */
export function encode(bitmap, { left, top, width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(bitmap, -left, -top);
  const type = width * height > LOSSLESS_PIXELS ? "image/jpeg" : "image/png";
  return new Promise((resolve) => canvas.toBlob(resolve, type, JPEG_QUALITY));
}

/**
 * The file itself; one of another format, such as AVIF, as this browser decodes it. The HEIC files of
 * iPhones are decoded by Safari. A file that the browser cannot read is sent, and refused in words.
 */
export async function forTheModel(file) {
  if (!file.type.startsWith("image/") || DECODED.includes(file.type)) return file;
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: orientation(file) });
    return (await encode(bitmap, { left: 0, top: 0, width: bitmap.width, height: bitmap.height })) ?? file;
  } catch {
    return file;
  }
}
