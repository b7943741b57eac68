/** Browsers of this machine, driven by puppeteer, and the page in them. */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import puppeteer, { type Browser, type ElementHandle, type Page } from "puppeteer-core";
import { Stage } from "../../scripts/support/stage.ts";
import { buildSite } from "../../scripts/support/site.ts";
import { type PageServer, servePage } from "../../src/cli/ui/page_server.ts";

/** Names of browsers by kind; an environment variable of that name in capitals goes first. */
const PROGRAMS = {
  chromium: ["chromium", "chromium-browser", "google-chrome"],
  firefox: ["firefox-esr", "firefox"],
} as const;

export type BrowserKind = keyof typeof PROGRAMS;

/** Returns the path of a browser; null if there is none. */
export function findBrowser(kind: BrowserKind): string | null {
  const named = process.env[kind.toUpperCase()];
  if (named !== undefined) return named;
  for (const folder of (process.env["PATH"] ?? "").split(path.delimiter)) {
    for (const name of PROGRAMS[kind]) {
      const program = path.join(folder, name);
      if (fs.existsSync(program)) return program;
    }
  }
  return null;
}

/** The page in a browser. Dispose it (`await using`). */
export interface OpenPage extends AsyncDisposable {
  readonly browser: Browser;
  readonly page: Page;
  readonly url: string;
}

/** How a page is opened. */
export interface OpenOptions {
  readonly kind?: BrowserKind;
  /** Whether the server isolates the page, as `quantsmith ui` does; default: true. */
  readonly isIsolated?: boolean;
  readonly args?: readonly string[];
  /** Of the page, with a leading `?`. */
  readonly query?: string;
}

let site: string | null = null;

/** Builds the site once per process; returns its folder. */
export async function siteFolder(): Promise<string> {
  if (site !== null) return site;
  using stage = new Stage();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-site-"));
  globalThis.addEventListener("unload", () => fs.rmSync(folder, { recursive: true, force: true }));
  await buildSite(stage, folder);
  site = folder;
  return folder;
}

/** Opens the page in a browser without a window. */
export async function openPage(options: OpenOptions = {}): Promise<OpenPage> {
  const { kind = "chromium", isIsolated = true, args = [] } = options;
  // Without the headers it is asked not to help itself by its service worker.
  const { query = isIsolated ? "" : "?isolate=off" } = options;
  const folder = await siteFolder();
  const server: PageServer = await servePage(folder, {
    port: 0,
    ...(isIsolated ? {} : { headersOf: () => ({}) }),
  });
  const browser = await puppeteer.launch({
    browser: kind === "chromium" ? "chrome" : "firefox",
    executablePath: findBrowser(kind)!,
    headless: true,
    // Tests run as root in containers, and Chromium's sandbox does not run there.
    args: [...(kind === "chromium" ? ["--no-sandbox"] : []), ...args],
    protocolTimeout: 1_800_000,
  });
  const page = await browser.newPage();
  await page.goto(server.url + query);
  await page.waitForFunction("globalThis.quantsmith !== undefined");
  return {
    browser,
    page,
    url: server.url,
    [Symbol.asyncDispose]: async () => {
      await browser.close();
      await server.close();
    },
  };
}

/** Puts files of the disk into `globalThis.chosen` of the page, as a person's choice does. */
export async function chooseFiles(page: Page, paths: readonly string[]): Promise<void> {
  const input = await page.evaluateHandle(() => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    document.body.append(input);
    return input;
  }) as ElementHandle<HTMLInputElement>;
  await input.uploadFile(...paths);
  await page.evaluate((input) => {
    const chosen = [...input.files!];
    Object.assign(globalThis, { chosen });
    // A browser asks the disk when it is asked; the page asks at once.
    for (const { size } of chosen) if (size < 0) throw new RangeError();
    input.remove();
  }, input);
}
