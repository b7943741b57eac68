/** The static site: scripts, page, style, licenses. */

import fs from "node:fs";
import { createHash } from "node:crypto";
import path from "node:path";
import development from "../../deno.dev.json" with { type: "json" };
import { chartScripts } from "../../src/cli/report/page_shell.ts";
import { SERVICE_WORKER } from "../../src/cli/ui/page_headers.ts";
import { bundleScript, bundleWeb, WEB_PACKAGES } from "./bundle_web.ts";
import type { Stage } from "./stage.ts";
import { licensesOf } from "./third_party.ts";

const ROOT = new URL("../..", import.meta.url);

/** The policy of `index.html` for the scripts of reports, which the page shows. */
const PLACEHOLDER = "REPORT_SCRIPTS";

/** Specifiers of {@link WEB_PACKAGES}. */
export function webPackages(): string[] {
  const imports: Readonly<Record<string, string>> = development.imports;
  return WEB_PACKAGES.map((name) => (imports[name] ?? imports[`${name}/`])!.replace(/\/$/, ""));
}

/** Returns the page, whose policy allows the scripts of reports by their hashes. */
function pageWithPolicy(): string {
  const page = fs.readFileSync(new URL("web/index.html", ROOT), "utf8");
  const hashes = chartScripts().map((script) =>
    `'sha256-${createHash("sha256").update(script).digest("base64")}'`
  );
  if (!page.includes(PLACEHOLDER)) throw new Error(`web/index.html has no ${PLACEHOLDER}`);
  return page.replace(PLACEHOLDER, hashes.join(" "));
}

/** Builds the site into `folder`, which is replaced. */
export async function buildSite(stage: Stage, folder: string): Promise<void> {
  stage.installPackages(webPackages());
  fs.cpSync(new URL("web", ROOT), path.join(stage.path, "web"), { recursive: true });
  fs.rmSync(folder, { recursive: true, force: true });
  const inside = await bundleWeb(stage, folder, {
    page: "web/page/page.ts",
    convert: "web/convert.ts",
  });
  const worker = path.join(folder, SERVICE_WORKER);
  await bundleScript(stage, worker, "web/page/service_worker.ts");
  fs.copyFileSync(new URL("web/style.css", ROOT), path.join(folder, "style.css"));
  fs.writeFileSync(path.join(folder, "index.html"), pageWithPolicy());
  fs.writeFileSync(path.join(folder, "THIRD_PARTY_LICENSES.txt"), licensesOf(inside, stage.path));
}
