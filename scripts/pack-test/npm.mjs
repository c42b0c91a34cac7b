import { spawnSync } from 'node:child_process'

/**
 * Runs npm: the one that runs this script, if one does.
 * @param {readonly string[]} args
 * @param {string} cwd
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string} what it printed
 */
export function npm(args, cwd, env = process.env) {
  const own = { ...env }
  // What the npm that runs this script says of its own project.
  for (const name of Object.keys(own)) if (/^npm_(package|lifecycle|config_local_prefix)/.test(name)) delete own[name]
  const cli = env.npm_execpath
  const [command, ...before] = cli === undefined ? ['npm'] : [process.execPath, cli]
  const shell = cli === undefined && process.platform === 'win32'
  const result = spawnSync(command, [...before, ...args], { cwd, env: own, shell, encoding: 'utf8' })
  if (result.error) throw new Error(`npm could not be started: ${result.error.message}`)
  if (result.status !== 0) throw new Error(`npm ${args.join(' ')} failed in ${cwd}:\n${result.stderr}${result.stdout}`)
  return result.stdout
}
