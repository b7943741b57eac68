import assert from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import {
  displayName,
  httpFile,
  hubFile,
  hubPageOf,
  isRemote,
  localNameOf,
  parseHub,
  siblingOf,
} from "../../src/remote/location.ts";

Deno.test("isRemote() knows URLs and hf: words, and takes nothing else for one", () => {
  for (const word of ["https://a/b", "http://a/b", "HTTPS://a/b", "hf://o/r"]) {
    assert.ok(isRemote(word), word);
  }
  for (const word of ["model.safetensors", "/a/b", "C:\\a", "https", "file:///a", "hf:o/r"]) {
    assert.ok(!isRemote(word), word);
  }
});

Deno.test("httpFile() keeps secrets out of the name: user, password, query and fragment", () => {
  const file = httpFile("https://me:geheim@host.example/a/b.safetensors?sig=geheim#geheim");
  assert.equal(file.name, "https://host.example/a/b.safetensors?...");
  assert.ok(!file.url.includes("me:"));
  assert.equal(file.headers["authorization"], `Basic ${btoa("me:geheim")}`);
  assert.ok(!displayName("https://me:geheim@host.example/a?sig=geheim").includes("geheim"));
  assert.ok(!displayName("https://me:geheim@:99999/a?sig=geheim").includes("geheim"));
});

Deno.test("httpFile() sends the token to the Hub's own host and to no other", () => {
  const env = { HF_TOKEN: "hf_geheim" };
  const at = (url: string) => httpFile(url, env).headers["authorization"];
  assert.equal(at("https://huggingface.co/o/r/resolve/main/m.safetensors"), "Bearer hf_geheim");
  for (
    const other of [
      "https://example.com/m.safetensors",
      "http://huggingface.co/o/r/resolve/main/m.safetensors",
      "https://huggingface.co.example.com/m.safetensors",
      "https://cdn.huggingface.co/m.safetensors",
      "https://huggingface.co:8443/m.safetensors",
    ]
  ) assert.equal(at(other), undefined, other);
});

Deno.test("httpFile() takes the older name of the token, and the newer one before it", () => {
  const url = "https://huggingface.co/o/r/resolve/main/m.safetensors";
  const old = { HUGGING_FACE_HUB_TOKEN: "old" };
  assert.equal(httpFile(url, old).headers["authorization"], "Bearer old");
  assert.equal(httpFile(url, { ...old, HF_TOKEN: "new" }).headers["authorization"], "Bearer new");
});

Deno.test("httpFile() makes the page of a file on the Hub the file", () => {
  const { url } = httpFile("https://huggingface.co/o/r/blob/main/t/m.safetensors");
  assert.equal(url, "https://huggingface.co/o/r/resolve/main/t/m.safetensors");
});

Deno.test("hubPageOf() takes the addresses of repositories and folders, of the Hub only", () => {
  const hub = "https://huggingface.co";
  const cases: Record<string, ReturnType<typeof hubPageOf>> = {
    [`${hub}/o/r`]: { repo: "o/r", file: null, revision: null },
    [`${hub}/o/r/`]: { repo: "o/r", file: null, revision: null },
    [`${hub}/o/FLUX.1-dev/tree/main`]: { repo: "o/FLUX.1-dev", file: null, revision: "main" },
    [`${hub}/o/r/tree/refs%2Fpr%2F1/a/b`]: { repo: "o/r", file: "a/b", revision: "refs/pr/1" },
    [`${hub}/o/r/blob/main/m.safetensors`]: null,
    [`${hub}/o/r/resolve/main/m.safetensors`]: null,
    "https://example.com/o/r": null,
    "hf://o/r": null,
  };
  for (const [word, place] of Object.entries(cases)) {
    assert.deepEqual(hubPageOf(word, {}), place, word);
  }
});

Deno.test("httpFile() refuses what is no URL, without its secrets", () => {
  assert.throws(() => httpFile("https://?sig=geheim"), (error) => {
    assert.ok(error instanceof UsageError);
    assert.ok(!error.message.includes("geheim"));
    return true;
  });
});

Deno.test("siblingOf() names a file of the same folder, with the same query", () => {
  const file = httpFile("https://h/a/m.safetensors.index.json?sig=1");
  const { url, name } = siblingOf(file, "m 1.safetensors");
  assert.equal(url, "https://h/a/m%201.safetensors?sig=1");
  assert.equal(name, "https://h/a/m%201.safetensors?...");
});

Deno.test("parseHub() takes a repository, a file or folder, and a revision at either place", () => {
  const cases: Record<string, ReturnType<typeof parseHub>> = {
    "hf://o/r": { repo: "o/r", file: null, revision: null },
    "hf://o/r/": { repo: "o/r", file: null, revision: null },
    "hf://o/r@v1": { repo: "o/r", file: null, revision: "v1" },
    "hf://o/r/t/m.safetensors": { repo: "o/r", file: "t/m.safetensors", revision: null },
    "hf://o/r/t": { repo: "o/r", file: "t", revision: null },
    "hf://o/r/t@v1": { repo: "o/r", file: "t", revision: "v1" },
    "hf://o/r/m.safetensors@refs/pr/3": {
      repo: "o/r",
      file: "m.safetensors",
      revision: "refs/pr/3",
    },
    "hf://o/r@v1/m.safetensors": { repo: "o/r", file: "m.safetensors", revision: "v1" },
    "hf://o/r@refs/pr/3/m.safetensors": {
      repo: "o/r",
      file: "m.safetensors",
      revision: "refs/pr/3",
    },
  };
  for (const [word, place] of Object.entries(cases)) assert.deepEqual(parseHub(word), place, word);
  for (const word of ["hf://", "hf://o", "hf://o/"]) {
    assert.throws(() => parseHub(word), UsageError, word);
  }
});

Deno.test("hubFile() escapes what stands in names and revisions", () => {
  const place = parseHub("hf://o/r@refs/pr/3/t/m 1.safetensors");
  const { url } = hubFile(place, place.file!, {});
  assert.equal(url, "https://huggingface.co/o/r/resolve/refs%2Fpr%2F3/t/m%201.safetensors");
});

Deno.test("localNameOf() names outputs after the file, or after the repository", () => {
  assert.equal(localNameOf("a/b.safetensors"), "a/b.safetensors");
  assert.equal(localNameOf("https://h/x/b%20c.safetensors?s=1"), "b c.safetensors");
  assert.equal(localNameOf("https://h/x/..%2Fb.safetensors"), ".._b.safetensors");
  assert.equal(localNameOf("hf://o/r@v1"), "r");
  assert.equal(localNameOf("hf://o/r/t/m.safetensors@v1"), "m.safetensors");
});
