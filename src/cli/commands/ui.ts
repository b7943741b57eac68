/** `quantsmith ui`: serves the page that converts in a browser to this machine, and opens it. */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CommandContext } from "../context.ts";
import type { Parsed } from "../parse.ts";
import { openInBrowser } from "../ui/open_browser.ts";
import { servePage } from "../ui/page_server.ts";

/** The page beside the program: in the npm package, and in a checkout once it is built. */
const SITES = ["../web/", "../../../dist/web/"];

/**
 * Runs the subcommand until it is interrupted; returns the exit code.
 *
 * @throws Error if the page is not there, or the port is taken.
 */
export async function uiCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const server = await servePage(siteFolder(context.workerUrl), {
    port: parsed.number("port") ?? 0,
  });
  context.stdout(`${server.url} has the page, for this machine only; Ctrl+C ends it`);
  if (parsed.bool("open", true) && !openInBrowser(server.url)) {
    context.stderr("warning: no browser could be opened; open the address above in one");
  }
  const { signal } = context;
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await server.close();
  return 0;
}

/** Returns the folder of the page. */
function siteFolder(workerUrl: URL): string {
  const places = SITES.map((place) => new URL(place, workerUrl));
  const found = places.find((place) =>
    place.protocol === "file:" && existsSync(new URL("index.html", place))
  );
  if (found === undefined) {
    throw new Error(
      "Cannot serve the page: this copy of the program has none; `npx quantsmith ui` has it, and in a " +
        "checkout `deno task build:web` builds it",
    );
  }
  return fileURLToPath(found);
}
