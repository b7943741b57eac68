/** The parts of `node:process` that the program uses: a browser has no environment and no arguments. */

const process = {
  argv: [] as string[],
  cwd: (): string => "/",
  env: {} as Record<string, string | undefined>,
  execArgv: [] as string[],
  exit: (): void => {},
  on: (): void => {},
  once: (): void => {},
  pid: 1,
  platform: "browser",
  versions: {} as Record<string, string | undefined>,
};

export default process;
