/** Says which Node is needed. Written in the JavaScript of old versions, as it must run there. */

/** Returns whether this runtime will do; if not, has said so and set the exit code. */
export function checkNode() {
  // Bun and Deno name a version of Node that they resemble.
  if (process.versions.bun || process.versions.deno) return true;
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 12)) return true;
  console.error(
    "error: quantsmith needs Node 20.12 or later, this is " + process.versions.node +
      ": install a newer one from https://nodejs.org",
  );
  process.exitCode = 1;
  return false;
}
