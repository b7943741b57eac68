/// <reference lib="deno.unstable" />

/**
 * A rule of `deno lint`: functions of `src/` have at most {@link MOST_LINES} lines, and its files at most
 * {@link MOST_FILE_LINES}. Longer ones consist of several steps, and each step deserves a name.
 */

/** Lines of the longest function, from its name or its parameters to its brace. */
export const MOST_LINES = 60;

/** Lines of the longest file. */
export const MOST_FILE_LINES = 500;

type FunctionNode =
  | Deno.lint.FunctionDeclaration
  | Deno.lint.FunctionExpression
  | Deno.lint.ArrowFunctionExpression;

const plugin: Deno.lint.Plugin = {
  name: "house",
  rules: {
    "short-functions": {
      create(context) {
        if (!context.filename.replaceAll("\\", "/").includes("/src/")) return {};
        const { text } = context.sourceCode;
        const check = (node: FunctionNode): void => {
          const lines = lineCount(text.slice(...node.range));
          if (lines <= MOST_LINES) return;
          context.report({
            node,
            message: `A function of ${lines} lines: at most ${MOST_LINES}, take it apart`,
          });
        };
        return {
          FunctionDeclaration: check,
          FunctionExpression: check,
          ArrowFunctionExpression: check,
          Program(node) {
            const lines = lineCount(text.trimEnd());
            if (lines <= MOST_FILE_LINES) return;
            context.report({
              node,
              message: `A file of ${lines} lines: at most ${MOST_FILE_LINES}, take it apart`,
            });
          },
        };
      },
    },
  },
};

export default plugin;

function lineCount(text: string): number {
  return text.split("\n").length;
}
