/** The file that stands for the model. */

/**
 * Returns the index among `paths`, or the only file.
 *
 * @throws RangeError if several could be the model.
 */
export function modelAmong(paths: readonly string[]): string {
  if (paths.length === 1) return paths[0]!;
  const indexes = paths.filter((path) => path.endsWith(".index.json"));
  if (indexes.length === 1) return indexes[0]!;
  throw new RangeError(
    paths.length === 0
      ? "Cannot convert: no file was chosen"
      : `Cannot convert ${paths.length} files as one model: choose one .safetensors file, or all shards ` +
        "together with their .safetensors.index.json",
  );
}
