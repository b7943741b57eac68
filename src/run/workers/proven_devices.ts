/**
 * Remembers which devices passed which problems of the self-test, in the user's cache folder, so that it is
 * done once per adapter, driver and version of the kernels. Passes only: a device that failed is tested
 * again each time, as its driver may have been mended. If nothing can be read or written, nothing is
 * remembered, and the test is done again.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import * as v from "valibot";

/** Passes are forgotten after so many days: what a driver is made of cannot be seen everywhere. */
const DAYS = 30;

const DAY_MS = 86_400_000;

/** Most devices that are remembered. */
const DEVICES_MAX = 32;

/** By device: when it was tested, in days since 1970, and the problems it passed. */
const MEMORY = v.record(v.string(), v.object({ day: v.number(), passed: v.array(v.string()) }));

type Memory = v.InferOutput<typeof MEMORY>;

/** The folder for files that a program can do without; null if the environment names none. */
export function cacheFolder(
  env: Readonly<Record<string, string | undefined>>,
  platform: string,
): string | null {
  const of = (name: string, ...rest: string[]) => {
    const folder = env[name];
    return folder === undefined || folder === "" ? null : join(folder, ...rest);
  };
  const own = platform === "win32"
    ? of("LOCALAPPDATA")
    : platform === "darwin"
    ? of("HOME", "Library", "Caches")
    : of("XDG_CACHE_HOME") ?? of("HOME", ".cache");
  return own === null ? null : join(own, "quantsmith");
}

/** Passes of one device. */
export class ProvenDevice {
  readonly #path: string | null;
  readonly #key: string;

  /**
   * @param identity everything that a result may depend on: adapter, driver, runtime, kernels.
   * @param folder where it is remembered; null: nowhere.
   */
  constructor(identity: readonly unknown[], folder: string | null) {
    this.#path = folder === null ? null : join(folder, "gpu-self-test.json");
    this.#key = createHash("sha256").update(JSON.stringify(identity)).digest("hex");
  }

  /** The problems it has passed. */
  passed(): ReadonlySet<string> {
    const found = this.#read()[this.#key];
    const isFresh = found !== undefined && today() - found.day >= 0 && today() - found.day < DAYS;
    return new Set(isFresh ? found.passed : []);
  }

  /** Remembers that it has passed `problems`, too. */
  remember(problems: readonly string[]): void {
    if (this.#path === null) return;
    const known = this.passed();
    const others = Object.entries(this.#read())
      .filter(([key, { day }]) => key !== this.#key && today() - day < DAYS)
      .sort(([, a], [, b]) => b.day - a.day)
      .slice(0, DEVICES_MAX - 1);
    const own = { day: today(), passed: [...new Set([...known, ...problems])].sort() };
    const text = JSON.stringify(Object.fromEntries([[this.#key, own], ...others]), null, 1);
    quietly(() => {
      mkdirSync(join(this.#path!, ".."), { recursive: true });
      // Beside it first: another run may read at any time.
      const beside = `${this.#path}.${process.pid}`;
      writeFileSync(beside, text);
      renameSync(beside, this.#path!);
    });
  }

  #read(): Memory {
    const found = this.#path === null
      ? undefined
      : quietly(() => v.safeParse(MEMORY, JSON.parse(readFileSync(this.#path!, "utf8"))));
    return found?.success === true ? found.output : {};
  }
}

function today(): number {
  return Math.floor(Date.now() / DAY_MS);
}

/** Returns what `work` gives; undefined if it fails, as a file that is missing, broken or not permitted. */
function quietly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Folders of the descriptions of Vulkan drivers. */
const VULKAN_FOLDERS = [
  "/usr/share/vulkan/icd.d",
  "/etc/vulkan/icd.d",
  "/usr/local/share/vulkan/icd.d",
];

/** Folders of their libraries, if a description gives only a name. */
const LIBRARY_FOLDERS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
];

/** Files whose change shows another driver: those of Windows, macOS, and NVIDIA's module on Linux. */
const DRIVER_FILES = [
  ...["d3d12.dll", "nvapi64.dll", "amdxc64.dll", "igc64.dll"].map((name) =>
    join("C:\\Windows\\System32", name)
  ),
  "/System/Library/CoreServices/SystemVersion.plist",
  "/proc/driver/nvidia/version",
];

/**
 * Visible facts of the drivers of this machine, for {@link ProvenDevice}: WebGPU reports no version of one.
 * Files that may not be read are left out.
 */
export function driverIdentity(): readonly unknown[] {
  const named = process.env["VK_DRIVER_FILES"] ?? process.env["VK_ICD_FILENAMES"];
  const manifests = named?.split(/[:;]/) ??
    VULKAN_FOLDERS.flatMap((folder) =>
      (quietly(() => readdirSync(folder)) ?? []).map((name) => join(folder, name))
    );
  const libraries = manifests.flatMap((path) => {
    const text = quietly(() => readFileSync(path, "utf8"));
    const library = /"library_path"\s*:\s*"([^"]+)"/.exec(text ?? "")?.[1];
    if (library === undefined) return [];
    return [library, ...LIBRARY_FOLDERS.map((folder) => join(folder, basename(library)))];
  });
  const files = [...manifests, ...libraries, ...DRIVER_FILES].sort();
  return files.flatMap((path) => {
    const found = quietly(() => statSync(path));
    return found === undefined ? [] : [[path, found.size, found.mtimeMs]];
  });
}
