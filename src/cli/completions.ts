/**
 * `quantsmith completions bash|zsh|fish|powershell`: a completion script made from the flag table. Every
 * subcommand offers its own flags, switches in both directions.
 */

import { UsageError } from "../core/errors.ts";
import { nearestOr } from "../core/nearest.ts";
import type { CommandContext } from "./context.ts";
import { type CommandName, COMMANDS, type Flag } from "./flags/flag.ts";
import { completedForms, FLAGS, takesFlag, typedForms } from "./flags/table.ts";
import type { Parsed } from "./parse.ts";

const SHELLS = Object.freeze({
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
  powershell: powershellScript,
});

const SUBCOMMANDS = COMMANDS.filter((name) => name !== "convert");

/** Words that may come first, besides a model. */
const FIRST_WORDS: readonly string[] = [...SUBCOMMANDS, "help"];

/** Second words, by subcommand. */
const SECOND_WORDS: Readonly<Record<string, readonly string[]>> = {
  presets: ["list", "show", "detect"],
  completions: Object.keys(SHELLS),
  help: SUBCOMMANDS,
};

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
      `Unknown shell ${JSON.stringify(shell)}: ${
        nearestOr(`there are ${names.join(", ")}`, shell, names)
      }`,
    );
  }
  context.stdout(completionScript(shell as keyof typeof SHELLS));
  return 0;
}

/** Returns the completion script of a shell. */
export function completionScript(shell: keyof typeof SHELLS): string {
  return SHELLS[shell]();
}

/** The words that may follow a flag; empty if it takes none, or a free text. */
function wordsOf({ type }: Flag): readonly string[] {
  return type.kind === "enum" || type.kind === "optional" ? type.words : [];
}

function takesFile({ type }: Flag): boolean {
  return (type.kind === "string" || type.kind === "list") && /^(FILE|DIR)/.test(type.place);
}

function flagsOf(command: CommandName): Flag[] {
  return FLAGS.filter((flag) => takesFlag(command, flag));
}

function bashScript(): string {
  const values = FLAGS.filter((flag) => wordsOf(flag).length > 0).map((flag) =>
    `    ${typedForms(flag).join("|")}) words="${wordsOf(flag).join(" ")}" ;;`
  );
  const flags = COMMANDS.map((command) =>
    `    ${command === "convert" ? "*" : command}) flags="${
      flagsOf(command).flatMap(completedForms).join(" ")
    }" ;;`
  );
  // The pattern that matches everything comes last.
  flags.push(...flags.splice(0, 1));
  const seconds = Object.entries(SECOND_WORDS).map(([command, words]) =>
    `    ${command}) second="${words.join(" ")}" ;;`
  );
  return `# bash completion for quantsmith: source <(quantsmith completions bash)
_quantsmith() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}"
  local words="" flags="" second=""
  case "$prev" in
${values.join("\n")}
  esac
  if [[ -n "$words" && "$cur" != -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [[ \${#COMPREPLY[@]} -gt 0 ]] && return
  fi
  if [[ "$cur" == -* ]]; then
    case "\${COMP_WORDS[1]}" in
${flags.join("\n")}
    esac
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    return
  fi
  COMPREPLY=($(compgen -f -- "$cur"))
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY+=($(compgen -W "${FIRST_WORDS.join(" ")}" -- "$cur"))
  elif [[ $COMP_CWORD -eq 2 ]]; then
    case "\${COMP_WORDS[1]}" in
${seconds.join("\n")}
    esac
    COMPREPLY+=($(compgen -W "$second" -- "$cur"))
  fi
}
complete -o filenames -F _quantsmith quantsmith`;
}

function zshScript(): string {
  const quoted = (text: string) => text.replaceAll("'", "'\\''").replaceAll(/[[\]:]/g, "\\$&");
  const specs = (flag: Flag) =>
    completedForms(flag).map((form) => {
      const words = wordsOf(flag);
      const colon = flag.type.kind === "optional" ? "::" : ":";
      const value = flag.type.kind === "bool"
        ? ""
        : words.length > 0
        ? `${colon}value:(${words.join(" ")})`
        : takesFile(flag)
        ? ":file:_files"
        : ":value: ";
      return `      '${form}[${quoted(flag.help)}]${value}'`;
    });
  const cases = COMMANDS.map((command) => {
    const words = SECOND_WORDS[command];
    const second = words === undefined ? "" : ` '2: :(${words.join(" ")})'`;
    return `    ${command === "convert" ? "*" : command}) _arguments -s : \\
${flagsOf(command).flatMap(specs).join(" \\\n")} \\
      '1: :_quantsmith_first'${second} '*:file:_files' ;;`;
  });
  cases.push(...cases.splice(0, 1));
  return `#compdef quantsmith
# zsh completion for quantsmith: quantsmith completions zsh > "\${fpath[1]}/_quantsmith"
_quantsmith() {
  case "\${words[2]}" in
    help) _arguments '1: :_quantsmith_first' '2: :(${SUBCOMMANDS.join(" ")})' ;;
${cases.join("\n")}
  esac
}
_quantsmith_first() {
  compadd ${FIRST_WORDS.join(" ")}
  _files
}
compdef _quantsmith quantsmith`;
}

function fishScript(): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = FLAGS.flatMap((flag) => {
    const takers = COMMANDS.filter((command) => takesFlag(command, flag));
    const words = wordsOf(flag);
    const value = flag.type.kind === "bool" || flag.type.kind === "optional"
      ? ""
      : takesFile(flag)
      ? " -r -F"
      : " -x";
    const choices = words.length > 0 ? ` -a ${quoted(words.join(" "))}` : "";
    return completedForms(flag).map((form) => {
      const name = form.startsWith("--")
        ? `-l ${form.slice(2)}`
        : form.length === 2
        ? `-s ${form.slice(1)}`
        : `-o ${form.slice(1)}`;
      return `complete -c quantsmith -n ${
        quoted(fishCondition(takers))
      } ${name}${value}${choices} ` +
        `-d ${quoted(flag.help)}`;
    });
  });
  const seconds = Object.entries(SECOND_WORDS).map(([command, words]) =>
    `complete -c quantsmith -n ${quoted(`__quantsmith_is ${command}`)} -a ${
      quoted(words.join(" "))
    }`
  );
  return `# fish completion for quantsmith: quantsmith completions fish | source
function __quantsmith_is
  set -l words (commandline -opc)
  set -l first convert
  contains -- "$words[2]" ${FIRST_WORDS.join(" ")}; and set first $words[2]
  contains -- $first $argv
end
complete -c quantsmith -n __fish_use_subcommand -a ${quoted(FIRST_WORDS.join(" "))}
${seconds.join("\n")}
${lines.join("\n")}`;
}

/** PowerShell completes files itself if a completer returns nothing. */
function powershellScript(): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
  const list = (words: readonly string[]) => `@(${words.map(quoted).join(", ")})`;
  const flags = COMMANDS.map((command) =>
    `    ${quoted(command)} = ${list(flagsOf(command).flatMap(completedForms))}`
  );
  const values = FLAGS.filter((flag) => wordsOf(flag).length > 0).flatMap((flag) =>
    typedForms(flag).map((form) => `    ${quoted(form)} = ${list(wordsOf(flag))}`)
  );
  const seconds = Object.entries(SECOND_WORDS).map(([command, words]) =>
    `    ${quoted(command)} = ${list(words)}`
  );
  return `# PowerShell completion for quantsmith:
# quantsmith completions powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName quantsmith, quantsmith.exe -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $first = ${list(FIRST_WORDS)}
  $flags = @{
${flags.join("\n")}
  }
  $values = @{
${values.join("\n")}
  }
  $second = @{
${seconds.join("\n")}
  }
  $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
  $position = $words.Count
  if ($wordToComplete -ne '') { $position -= 1 }
  $command = 'convert'
  if ($words.Count -gt 1 -and $flags.ContainsKey($words[1])) { $command = $words[1] }
  $previous = ''
  if ($position -gt 1) { $previous = $words[$position - 1] }
  if ($wordToComplete -like '-*') { $found = $flags[$command] }
  elseif ($values.ContainsKey($previous)) { $found = $values[$previous] }
  elseif ($position -eq 1) { $found = $first }
  elseif ($position -eq 2 -and $second.ContainsKey($words[1])) { $found = $second[$words[1]] }
  else { $found = @() }
  $found | Where-Object { $_ -like "$wordToComplete*" } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}`;
}

function fishCondition(takers: readonly CommandName[]): string {
  return `__quantsmith_is ${takers.join(" ")}`;
}
