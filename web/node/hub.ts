/** `@huggingface/hub` for the bundler: a page opens only files that a person gives it. */

export function listFiles(): never {
  throw new TypeError("Cannot open a model on a server from a page: download it first");
}
