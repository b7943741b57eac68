import assert from "node:assert/strict";
import { listHub } from "../../src/remote/hub.ts";
import { RemoteError } from "../../src/remote/remote_error.ts";
import { FileServer } from "../support/file_server.ts";

const PLACE = { repo: "o/r", file: null, revision: null };
const PATIENCE = { silenceMs: 20_000, attempts: 2, firstWaitMs: 1 };

/** Lists the repository of a Hub whose every page is `body`, with a next one if `hasNext`. */
async function list(body: string, { hasNext }: { hasNext: boolean }): Promise<string[]> {
  await using server: FileServer = await FileServer.start({
    files: {},
    fault: ({ number }) => ({
      status: 200,
      headers: {
        "content-type": "application/json",
        ...(hasNext
          ? { link: `<${server.origin}/api/models/o/r/tree/main?cursor=${number}>; rel="next"` }
          : {}),
      },
      body,
    }),
  });
  return await listHub(PLACE, { HF_ENDPOINT: server.origin }, { patience: PATIENCE });
}

const FILE = { type: "file", path: "m.safetensors", size: 1 };

Deno.test("listHub() gives up a listing without end, and one that is too large, and says what to do", async () => {
  assert.deepEqual(await list(JSON.stringify([FILE]), { hasNext: false }), ["m.safetensors"]);
  const isRefused = (rule: RegExp) => (error: unknown) => {
    assert(error instanceof RemoteError && rule.test(error.message), `${error}`);
    assert.match(error.message, /name the file: hf:\/\/owner\/repo\/FILE/);
    return true;
  };
  await assert.rejects(
    list(JSON.stringify([FILE]), { hasNext: true }),
    isRefused(/more than 100 pages/),
  );
  const huge = `[${" ".repeat(65 << 20)}]`;
  await assert.rejects(list(huge, { hasNext: false }), isRefused(/more than 67108864 bytes/));
});
