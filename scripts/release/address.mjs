// Where the repository is on the web. No file says so: it is read from where the release is made.
import { spawnSync } from 'node:child_process'

/** How a host lays out its pages. Its `file`, `folder` and `raw` are followed by the tag and the path. */
const layouts = {
  github: { file: 'blob', folder: 'tree', raw: 'raw', issues: 'issues' },
  gitlab: { file: '-/blob', folder: '-/tree', raw: '-/raw', issues: '-/issues' },
  forgejo: { file: 'src/tag', folder: 'src/tag', raw: 'raw/tag', issues: 'issues' },
}
const knownHosts = { 'github.com': layouts.github, 'gitlab.com': layouts.gitlab, 'codeberg.org': layouts.forgejo }
/** The hosts' other names, for networks that let no ssh out: it is served on the port of https there. */
const aliases = { 'ssh.github.com': 'github.com', 'altssh.gitlab.com': 'gitlab.com' }

/**
 * @typedef {object} Address
 * @property {string} web `https://github.com/owner/name`
 * @property {{ homepage: string, bugs: { url: string }, repository: { type: 'git', url: string } }} fields for
 *   package.json
 * @property {(kind: 'file' | 'folder' | 'raw', tag: string, path: string) => string} at the page of a file at a tag
 */

/**
 * The address that was given, else that of the workflow that runs, else that of the remote `origin`.
 * @param {{ root: string, given?: string | undefined, env?: NodeJS.ProcessEnv }} options
 * @returns {Address}
 */
export function findAddress({ root, given, env = process.env }) {
  const server = env.GITHUB_SERVER_URL || 'https://github.com'
  if (given !== undefined) return parseAddress(given, 'the option --repository', server)
  // npm compares package.json with these when it checks a provenance statement.
  if (env.GITHUB_REPOSITORY) return parseAddress(`${server}/${env.GITHUB_REPOSITORY}`, 'GITHUB_REPOSITORY', server)
  const { status, stdout } = spawnSync('git', ['remote', 'get-url', 'origin'], { cwd: root, encoding: 'utf8' })
  if (status !== 0) {
    throw new Error(
      'The repository has no remote "origin", so its address is not known. Run "git remote add origin <address>", or ' +
        'pass it: npm run release:pack -- --repository https://github.com/OWNER/NAME',
    )
  }
  return parseAddress(stdout.trim(), 'the remote "origin"', server)
}

/**
 * Keeps the host and the path only: user names, passwords and tokens do not come through, and no message repeats the
 * text.
 * @param {string} text an address as git and npm take it: `https://…`, `ssh://…`, `git+ssh://…`, `git@host:owner/name`
 * @param {string} origin where it was found, for messages
 * @param {string} [server] a server of GitHub Enterprise
 * @returns {Address}
 */
export function parseAddress(text, origin, server = 'https://github.com') {
  const match =
    /^(?:git\+)?(?:https?|ssh|git):\/\/(?:[^/]*@)?([^/:@]+)(?::\d*)?[/:](.+)$/i.exec(text) ??
    /^(?:[^/@:]+@)?([^/:@]+):(?!\/\/)(.+)$/.exec(text)
  if (match === null) throw new Error(`The address in ${origin} is not that of a repository on the web.`)
  const name = match[1].toLowerCase()
  const host = aliases[name] ?? name
  const layout = host === new URL(server).hostname ? layouts.github : knownHosts[host]
  if (layout === undefined) {
    throw new Error(
      `The host in ${origin} is not one whose pages are known (${Object.keys(knownHosts).join(', ')}). Behind an alias of ssh, pass ` +
        'the address: npm run release:pack -- --repository https://github.com/OWNER/NAME',
    )
  }
  const segments = match[2]
    .replace(/[?#].*$/, '')
    .replace(/\/+$/, '')
    .replace(/\.git$/, '')
    .split('/')
    .filter((segment) => segment !== '')
  // Only GitLab has groups within groups.
  const isCounted = segments.length === 2 || (layout === layouts.gitlab && segments.length > 2)
  if (!isCounted || !segments.every((segment) => /^[\w.-]*\w[\w.-]*$/.test(segment))) {
    throw new Error(`The address in ${origin} does not end in OWNER/NAME.`)
  }
  const web = `https://${host}/${segments.join('/')}`
  return {
    web,
    fields: {
      homepage: `${web}#readme`,
      bugs: { url: `${web}/${layout.issues}` },
      repository: { type: 'git', url: `git+${web}.git` },
    },
    at: (kind, tag, path) => `${web}/${layout[kind]}/${tag}/${path.split('/').map(encodeURIComponent).join('/')}`,
  }
}
