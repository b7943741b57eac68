/** `@huggingface/hub` for the bundler: a page opens files that it is given, and nothing else. */

export function listFiles(): never {
  throw new TypeError("Cannot open a model on a server from a page: download it first");
}
