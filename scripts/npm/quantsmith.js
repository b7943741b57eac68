#!/usr/bin/env node
// The command. Old versions of Node must be able to read this file, to say that they are too old.
import { checkNode } from "./check_node.js";

if (checkNode()) await import("../lib/main.js");
