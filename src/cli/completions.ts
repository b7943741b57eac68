/** `quantsmith completions bash|zsh|fish`: a completion script made from the flag table. */

import { UsageError } from "../core/errors.ts";
import type { CommandContext } from "./context.ts";
import { COMMANDS, type Flag } from "./flags/flag.ts";
import { FLAGS, typedForms } from "./flags/table.ts";
import { nearest } from "../core/nearest.ts";
import type { Parsed } from "./parse.ts";

const SHELLS = Object.freeze({ bash: bashScript, zsh: zshScript, fish: fishScript });

/** Prints the script of the shell named in `parsed`; returns the exit code. */
export function completionsCommand(parsed: Parsed, context: CommandContext): number {
  const names = Object.keys(SHELLS);
  const [shell, extra] = parsed.positionals;
  if (shell === undefined) {
    throw new UsageError(`Missing shell: \`quantsmith completions ${names.join("|")}\``);
  }
  if (extra !== undefined) throw new UsageError(`Unexpected argument ${JSON.stringify(extra)}`);
  if (!Object.hasOwn(SHELLS, shell)) {
    throw new UsageError(
      `Unknown shell ${JSON.stringify(shell)}: the nearest is ${nearest(shell, names)}`,
    );
  }
  context.stdout(completionScript(shell as keyof typeof SHELLS));
  return 0;
}

/** Returns the completion script of a shell. */
export function completionScript(shell: keyof typeof SHELLS): string {
  return SHELLS[shell]();
}

/** The words that may follow a flag; empty where it takes none, or a free text. */
function wordsOf({ type }: Flag): readonly string[] {
  return type.kind === "enum" || type.kind === "optional" ? type.words : [];
}

function takesFile({ type }: Flag): boolean {
  return (type.kind === "string" || type.kind === "list") && type.place.startsWith("FILE");
}

const SUBCOMMANDS = COMMANDS.filter((name) => name !== "convert");

function bashScript(): string {
  const cases = FLAGS.filter((flag) => wordsOf(flag).length > 0).map((flag) =>
    `    ${typedForms(flag).join("|")}) COMPREPLY=($(compgen -W "${
      wordsOf(flag).join(" ")
    }" -- "$cur")); return ;;`
  );
  const all = FLAGS.flatMap(typedForms).join(" ");
  return `# bash completion for quantsmith: source <(quantsmith completions bash)
_quantsmith() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}"
  case "$prev" in
${cases.join("\n")}
  esac
  if [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "${all}" -- "$cur"))
    return
  fi
  COMPREPLY=($(compgen -f -- "$cur"))
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY+=($(compgen -W "${SUBCOMMANDS.join(" ")}" -- "$cur"))
  fi
}
complete -o filenames -F _quantsmith quantsmith`;
}

function zshScript(): string {
  const quoted = (text: string) => text.replaceAll("'", "'\\''").replaceAll(/[[\]:]/g, "\\$&");
  const specs = FLAGS.flatMap((flag) =>
    typedForms(flag).map((form) => {
      const words = wordsOf(flag);
      const optional = flag.type.kind === "optional" ? "::" : ":";
      const value = flag.type.kind === "bool"
        ? ""
        : words.length > 0
        ? `${optional}value:(${words.join(" ")})`
        : takesFile(flag)
        ? ":file:_files"
        : ":value: ";
      return `    '${form}[${quoted(flag.help)}]${value}'`;
    })
  );
  return `#compdef quantsmith
# zsh completion for quantsmith: quantsmith completions zsh > "\${fpath[1]}/_quantsmith"
_quantsmith() {
  local -a flags
  flags=(
${specs.join("\n")}
  )
  _arguments -s : "\${flags[@]}" '1: :_quantsmith_first' '*:file:_files'
}
_quantsmith_first() {
  compadd ${SUBCOMMANDS.join(" ")}
  _files
}
compdef _quantsmith quantsmith`;
}

function fishScript(): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = FLAGS.map((flag) => {
    const words = wordsOf(flag);
    const short = (flag.aliases ?? []).map((alias) =>
      alias.length === 2 ? ` -s ${alias.slice(1)}` : ` -o ${alias.slice(1)}`
    );
    const value = flag.type.kind === "bool" || flag.type.kind === "optional"
      ? ""
      : takesFile(flag)
      ? " -r -F"
      : " -x";
    const choices = words.length > 0 ? ` -a ${quoted(words.join(" "))}` : "";
    return `complete -c quantsmith -l ${flag.name}${short.join("")}${value}${choices} -d ${
      quoted(flag.help)
    }`;
  });
  return `# fish completion for quantsmith: quantsmith completions fish | source
complete -c quantsmith -n __fish_use_subcommand -a ${quoted(SUBCOMMANDS.join(" "))}
${lines.join("\n")}`;
}
