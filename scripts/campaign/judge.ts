/** Files that a folder may hold after a fault, and after the run that follows it. */

import { Buffer } from "node:buffer";
import { readdirSync } from "node:fs";
import { type Trial, visibleFiles } from "./commands.ts";

/**
 * Returns what is wrong with a folder after a fault: files that are neither the old nor the new ones, an index
 * of shards of two models, an old output that is gone; empty: nothing is lost.
 *
 * @param hadOld whether the old files were there before.
 */
export function faultsAfter(trial: Trial, folder: string, hadOld: boolean): string[] {
  const { expected, old, loose } = trial;
  const files = visibleFiles(folder);
  const faults: string[] = [];
  const is = (name: string, of: ReadonlyMap<string, Uint8Array>) =>
    of.has(name) && Buffer.from(files.get(name)!).equals(of.get(name)!);
  const names = new Map<string, Uint8Array>(expected);
  for (const [name, bytes] of files) {
    // Under its second name while shards are replaced: complete by then.
    if (!names.has(name)) faults.push(`${name} is no file of the output`);
    else if (loose?.test(name)) {
      if (!isJson(bytes)) faults.push(`${name} is not complete`);
    } else if (!is(name, expected) && !(hadOld && is(name, old)) && !isInterimIndex(name, bytes)) {
      faults.push(`${name} is neither what it was nor what it becomes`);
    }
  }
  if (hadOld) {
    const indexes = [...old.keys()].filter((name) => name.endsWith(".index.json"));
    const single = indexes.length === 0 ? [...old.keys()] : indexes;
    for (const name of single) {
      if (!files.has(name) && !trial.mayGo?.test(name)) faults.push(`${name} is gone`);
    }
  }
  for (const [name, bytes] of files) {
    if (name.endsWith(".index.json")) faults.push(...indexFaults(trial, folder, bytes));
  }
  return faults;
}

/** All shards of an index must be there, and be those of one model. */
function indexFaults({ expected, old }: Trial, folder: string, index: Uint8Array): string[] {
  const map: Record<string, string> = JSON.parse(new TextDecoder().decode(index)).weight_map;
  const shards = [...new Set(Object.values(map))];
  const bytesOf = (name: string): Buffer | null => {
    try {
      return Buffer.from(Deno.readFileSync(`${folder}/${name}`));
    } catch {
      return null;
    }
  };
  const ownName = (name: string) =>
    name.startsWith(".") ? `${name.slice(1).replace(/\.new\.safetensors$/, "")}.safetensors` : name;
  const isOf = (files: ReadonlyMap<string, Uint8Array>) =>
    shards.every((name) => bytesOf(name)?.equals(files.get(ownName(name)) ?? Buffer.alloc(0)));
  return isOf(expected) || isOf(old) ? [] : ["the index names shards of no one model"];
}

function isInterimIndex(name: string, bytes: Uint8Array): boolean {
  return name.endsWith(".index.json") &&
    new TextDecoder().decode(bytes).includes(".new.safetensors");
}

function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder().decode(bytes));
    return true;
  } catch {
    return false;
  }
}

/** Returns what is wrong with a folder after a run that was to end well. */
export function faultsAtEnd({ expected, loose }: Trial, folder: string): string[] {
  const files = visibleFiles(folder);
  const faults: string[] = [];
  for (const [name, bytes] of expected) {
    const own = files.get(name);
    if (own === undefined) faults.push(`${name} is missing`);
    else if (loose?.test(name) ? !isJson(own) : !Buffer.from(own).equals(bytes)) {
      faults.push(`${name} is not what an undisturbed run writes`);
    }
  }
  for (const name of files.keys()) if (!expected.has(name)) faults.push(`${name} is left`);
  for (const name of readdirSync(folder)) if (name.startsWith(".")) faults.push(`${name} is left`);
  return faults;
}
