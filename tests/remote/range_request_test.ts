import assert from "node:assert/strict";
import { httpFile, type RemoteFile } from "../../src/remote/location.ts";
import { readRemoteRange, type Version } from "../../src/remote/range_request.ts";
import { Redirects } from "../../src/remote/redirects.ts";
import { RemoteError } from "../../src/remote/remote_error.ts";
import { type Fault, FileServer, type SeenRequest } from "../support/file_server.ts";

const DATA = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 2654435761) >>> 13);
const VERSION: Version = { bytes: DATA.length, etag: '"v1"', lastModified: null, hasParts: true };
// Long silences: the machine that tests may be busy.
const PATIENCE = { silenceMs: 10_000, attempts: 3, firstWaitMs: 1 };

interface Outcome {
  readonly bytes: Uint8Array;
  readonly version: Version;
  readonly requests: readonly SeenRequest[];
  readonly retries: readonly string[];
}

/** Reads a range from a server that answers request number n by `faults[n]`. */
async function read(
  faults: readonly (Fault | null)[],
  {
    begin = 1000,
    end = 200_000,
    version = VERSION as Version | null,
    silenceMs = PATIENCE.silenceMs,
  } = {},
): Promise<Outcome> {
  await using server = await FileServer.start({
    files: { "m.safetensors": DATA },
    fault: ({ number }) => faults[number] ?? null,
  });
  return await readFrom(httpFile(server.url("m.safetensors?sig=geheim")), {
    begin,
    end,
    version,
    server,
    silenceMs,
  });
}

async function readFrom(
  file: RemoteFile,
  {
    begin,
    end,
    version,
    server,
    redirects = new Redirects(),
    silenceMs = PATIENCE.silenceMs,
  }: {
    begin: number;
    end: number;
    version: Version | null;
    server: FileServer;
    redirects?: Redirects;
    silenceMs?: number;
  },
): Promise<Outcome> {
  const parts: number[] = [];
  const retries: string[] = [];
  const found = await readRemoteRange(file, { begin, end }, (bytes) => parts.push(...bytes), {
    version,
    redirects,
    patience: { ...PATIENCE, silenceMs },
    onRetry: (text) => retries.push(text),
  });
  return { bytes: Uint8Array.from(parts), version: found, requests: server.requests, retries };
}

/** The error of a read, which names the file without its query. */
async function failureOf(promise: Promise<unknown>): Promise<RemoteError> {
  let failure: unknown;
  await promise.catch((error) => failure = error);
  assert.ok(failure instanceof RemoteError, String(failure));
  assert.match(failure.message, /http:\/\/127\.0\.0\.1:\d+\/m\.safetensors\?\.\.\."/);
  assert.ok(!failure.message.includes("geheim"));
  return failure;
}

Deno.test("readRemoteRange() returns the bytes of the range and the version of the file", async () => {
  const { bytes, version, requests } = await read([], { version: null });
  assert.deepEqual(bytes, DATA.slice(1000, 200_000));
  assert.deepEqual(version, VERSION);
  assert.equal(requests.length, 1);
});

Deno.test("readRemoteRange() reads to the end if a first request reaches beyond it", async () => {
  const { bytes, version } = await read([], { begin: 0, end: 1 << 20, version: null });
  assert.deepEqual(bytes, DATA);
  assert.equal(version.bytes, DATA.length);
});

Deno.test("readRemoteRange() takes the whole file from a server that sends no parts, and stops if it has enough", async () => {
  const whole = { whole: true } as const;
  const { bytes, version } = await read([whole], { begin: 0, end: 1 << 20, version: null });
  assert.deepEqual(bytes, DATA);
  assert.deepEqual(version, { ...VERSION, hasParts: false });
  const part = await read([whole], { begin: 0, end: 1000, version: null });
  assert.deepEqual(part.bytes, DATA.slice(0, 1000));
  const later = await read([whole], { begin: 500, end: 70_000, version });
  assert.deepEqual(later.bytes, DATA.slice(500, 70_000));
  assert.equal(later.requests[0]!.begin, null);
});

Deno.test("readRemoteRange() continues from the byte at which a connection was cut", async () => {
  const { bytes, requests, retries } = await read([{ cutAfter: 50_000 }, { cutAfter: 70_000 }]);
  assert.deepEqual(bytes, DATA.slice(1000, 200_000));
  assert.equal(requests.length, 3);
  assert.ok(requests[1]!.begin! > 1000, "it starts again");
  assert.ok(requests[2]!.begin! > requests[1]!.begin!);
  assert.equal(requests[2]!.headers["if-range"], '"v1"');
  assert.equal(retries.length, 2);
});

Deno.test("readRemoteRange() survives more cuts than it has attempts while bytes come", async () => {
  const { bytes } = await read(Array(4).fill({ cutAfter: 40_000 }));
  assert.deepEqual(bytes, DATA.slice(1000, 200_000));
});

Deno.test("readRemoteRange() gives up a server that sends a few bytes per connection", async () => {
  const failure = await failureOf(read(Array(200).fill({ cutAfter: 2000 })));
  assert.match(failure.message, /3 times in a row; run again later/);
});

Deno.test("readRemoteRange() asks again after 500, 503 and 429, and gives up at last", async () => {
  const good = await read([{ status: 500 }, { status: 503, headers: { "retry-after": "0" } }]);
  assert.deepEqual(good.bytes, DATA.slice(1000, 200_000));
  const failure = await failureOf(read(Array(9).fill({ status: 429 })));
  assert.match(failure.message, /429.*3 times in a row; run again later/);
});

Deno.test("readRemoteRange() takes a silent server for a broken connection", async () => {
  const { bytes, retries } = await read([{ silentAfter: 30_000 }], { silenceMs: 400 });
  assert.deepEqual(bytes, DATA.slice(1000, 200_000));
  assert.match(retries[0]!, /silent for 0\.4 s/);
});

Deno.test("readRemoteRange() waits for a slow server that keeps sending", async () => {
  const { bytes, retries } = await read([{ sliceBytes: 10_000, waitMs: 60 }], { silenceMs: 1000 });
  assert.deepEqual(bytes, DATA.slice(1000, 200_000));
  assert.deepEqual(retries, []);
});

Deno.test("readRemoteRange() fails at once, with what to do, if asking again is no use", async () => {
  const cases: [Fault, RegExp][] = [
    [{ status: 403 }, /at byte 1000: the server answers 403.*HF_TOKEN/],
    [{ status: 401 }, /401.*token/],
    [{ status: 404 }, /404.*check the address/],
    [{ status: 416 }, /416.*changed/],
    [{ status: 418 }, /418.*download the file first/],
    [{ whole: true }, /does not send parts of files.*download the file first/],
    [{ etag: '"v2"' }, /has changed while it was read: start again/],
    [{ totalBytes: 299_999 }, /has changed.*300000 bytes, now 299999/],
    [{ contentRange: "bytes 0-198999/300000" }, /were asked for, the server sends 0 to 198999/],
    [{ contentRange: "elephants" }, /no usable Content-Range/],
  ];
  for (const [fault, pattern] of cases) {
    const failure = await failureOf(read([fault]));
    assert.match(failure.message, pattern);
    assert.ok(!failure.fault.isTemporary);
  }
});

Deno.test("readRemoteRange() does not join bytes of two versions if a cut lies between them", async () => {
  const failure = await failureOf(read([{ cutAfter: 50_000 }, { etag: '"v2"' }]));
  assert.match(failure.message, /has changed while it was read/);
  assert.ok(failure.fault.offsetBytes! > 1000);
});

Deno.test("readRemoteRange() reports what the receiver throws, and does not ask again", async () => {
  await using server = await FileServer.start({ files: { m: DATA } });
  const full = new Error("the disk is full");
  await assert.rejects(
    readRemoteRange(httpFile(server.url("m")), { begin: 0, end: 1000 }, () => {
      throw full;
    }, { version: VERSION, redirects: new Redirects(), patience: PATIENCE }),
    (error) => error === full,
  );
  assert.equal(server.requests.length, 1);
});

Deno.test("readRemoteRange() ends with the reason of its signal while it waits", async () => {
  await using server = await FileServer.start({
    files: { m: DATA },
    fault: () => ({ silentAfter: 10 }),
  });
  const controller = new AbortController();
  const reason = new Error("stop");
  const reading = readRemoteRange(httpFile(server.url("m")), { begin: 0, end: 1000 }, () => {
    controller.abort(reason);
  }, {
    version: VERSION,
    redirects: new Redirects(),
    patience: { ...PATIENCE, silenceMs: 60_000 },
    signal: controller.signal,
  });
  await assert.rejects(reading, (error) => error === reason);
});

Deno.test("readRemoteRange() says that no server is there", async () => {
  const server = await FileServer.start({ files: {} });
  const file = httpFile(server.url("m.safetensors?sig=geheim"));
  await server[Symbol.asyncDispose]();
  const failure = await failureOf(readFrom(file, { begin: 0, end: 9, version: null, server }));
  assert.match(failure.message, /the connection failed .*3 times in a row/);
});

Deno.test("Redirects follows to another host without the secrets of the first, and goes there directly next time", async () => {
  await using target = await FileServer.start({ files: { "cdn/m": DATA } });
  await using hub = await FileServer.start({
    files: {},
    fault: () => ({ status: 302, headers: { location: target.url("cdn/m?signed=1") } }),
  });
  const file = { ...httpFile(hub.url("m")), headers: { authorization: "Bearer geheim" } };
  const redirects = new Redirects();
  for (const begin of [0, 1000]) {
    const range = { begin, end: begin + 1000, version: null, server: target, redirects };
    const { bytes } = await readFrom(file, range);
    assert.deepEqual(bytes, DATA.slice(begin, begin + 1000));
  }
  assert.equal(hub.requests.length, 1);
  assert.equal(hub.requests[0]!.headers.authorization, "Bearer geheim");
  assert.equal(target.requests.length, 2);
  for (const { headers, query } of target.requests) {
    assert.equal(headers.authorization, undefined);
    assert.equal(query, "?signed=1");
  }
});

Deno.test("Redirects asks the first server again if a signed address has expired", async () => {
  await using target = await FileServer.start({
    files: { m: DATA },
    fault: ({ query }) => query === "?signed=1" ? { status: 403 } : null,
  });
  let signatures = 0;
  await using hub = await FileServer.start({
    files: {},
    fault: () => ({ status: 302, headers: { location: target.url(`m?signed=${++signatures}`) } }),
  });
  const range = { begin: 0, end: 1000, version: VERSION, server: target };
  const { bytes } = await readFrom(httpFile(hub.url("m")), range);
  assert.deepEqual(bytes, DATA.slice(0, 1000));
  assert.equal(hub.requests.length, 2);
});

Deno.test("Redirects refuses circles and ways out of the network", async () => {
  const cases: [string, RegExp][] = [
    ["/m.safetensors?sig=geheim", /redirects more than 10 times/],
    ["file:///etc/passwd", /redirects to file:\/\/, which is not secure/],
  ];
  for (const [location, pattern] of cases) {
    await using server = await FileServer.start({
      files: {},
      fault: () => ({ status: 302, headers: { location } }),
    });
    const file = httpFile(server.url("m.safetensors?sig=geheim"));
    const failure = await failureOf(
      readFrom(file, { begin: 0, end: 9, version: null, server }),
    );
    assert.match(failure.message, pattern);
  }
});
