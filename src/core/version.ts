/** The version, the same as in deno.json: a program in one file has no deno.json to read. */

export const VERSION = "0.2.0";
