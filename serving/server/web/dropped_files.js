// The files that are dropped on the page, also those in folders.

const isShown = (entry) => !entry.name.startsWith(".");

/** All entries of a folder; the browser hands them over a hundred at a time. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return entries.filter(isShown);
    entries.push(...some);
  }
}

async function filesBelow(entry) {
  if (entry.isDirectory) {
    const files = await Promise.all((await entriesOf(entry)).map(filesBelow));
    return files.flat();
  }
  const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
  // As the browser itself names the files of a folder that is chosen.
  Object.defineProperty(file, "webkitRelativePath", { value: entry.fullPath.slice(1) });
  return [file];
}

/** The files of a drop. The entries must be taken before the event ends. */
export async function droppedFiles(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry());
  if (!entries.some((entry) => entry?.isDirectory)) return [...data.files];
  const files = await Promise.all(entries.filter(Boolean).map(filesBelow));
  return files.flat();
}
