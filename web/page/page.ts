import * as quantsmith from "../convert.ts";
Object.assign(globalThis, { quantsmith });
