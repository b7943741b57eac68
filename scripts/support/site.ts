/** The static site: scripts, page, style, licenses. */

import fs from "node:fs";
import path from "node:path";
import development from "../../deno.dev.json" with { type: "json" };
import { bundleWeb, WEB_PACKAGES } from "./bundle_web.ts";
import type { Stage } from "./stage.ts";
import { licensesOf } from "./third_party.ts";

const ROOT = new URL("../..", import.meta.url);

/** Copied as they are. */
const STATIC = ["index.html", "style.css"];

/** Specifiers of {@link WEB_PACKAGES}. */
export function webPackages(): string[] {
  const imports: Readonly<Record<string, string>> = development.imports;
  return WEB_PACKAGES.map((name) => (imports[name] ?? imports[`${name}/`])!.replace(/\/$/, ""));
}

/** Builds the site into `folder`, which is replaced. */
export async function buildSite(stage: Stage, folder: string): Promise<void> {
  stage.installPackages(webPackages());
  fs.cpSync(new URL("web", ROOT), path.join(stage.path, "web"), { recursive: true });
  fs.rmSync(folder, { recursive: true, force: true });
  const inside = await bundleWeb(stage, folder, {
    page: "web/page/page.ts",
    service_worker: "web/page/service_worker.ts",
  });
  for (const name of STATIC) {
    fs.copyFileSync(new URL(`web/${name}`, ROOT), path.join(folder, name));
  }
  fs.writeFileSync(path.join(folder, "THIRD_PARTY_LICENSES.txt"), licensesOf(inside, stage.path));
}
