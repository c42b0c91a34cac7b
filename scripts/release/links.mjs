// The links of Markdown pages: finds them, finds those that lead nowhere, and makes them absolute.
import { readFileSync } from 'node:fs'
import path from 'node:path'

/** Code: there, nothing is a heading or a link. A span ends within its paragraph. */
const fences = /^ *(`{3,}|~{3,})[^\n]*\n[\s\S]*?^ *\1[^\n]*$/gm
const spans = /(?<!`)(`+)(?!`)(?:(?!\n\s*\n)[\s\S])*?(?<!`)\1(?!`)/g
/** `](target)` and `](<target>)`, with a title or without; `[label]: target`; and the attributes of HTML. */
const forms = [
  /(?<=\]\(\s*)(?:<[^<>\n]*>|[^\s<>()]+(?:\([^\s<>()]*\)[^\s<>()]*)*)(?=(?:\s+["'(][^\n]*?["')])?\s*\))/g,
  /(?<=^ {0,3}\[[^\]^\n][^\]\n]*\]:\s*)(?:<[^<>\n]*>|[^\s<>]+)/gm,
  /(?<=<[a-z][^<>]*\s(?:href|src)=")[^"]+/gi,
]

/**
 * @param {string} text
 * @returns {{ target: string, start: number, end: number, isImage: boolean, line: number }[]} in the order of the page
 */
export function linksOf(text) {
  const prose = blank(blank(text, fences), spans)
  const links = forms.flatMap((form) =>
    [...prose.matchAll(form)].map(({ 0: found, index }) => {
      const target = found.replace(/^<(.*)>$/, '$1')
      const start = target === found ? index : index + 1
      const line = prose.slice(0, index).split('\n').length
      return { target, start, end: start + target.length, isImage: isImage(prose, index), line }
    }),
  )
  return links.sort((a, b) => a.start - b.start)
}

/** Whether it is the target of `![…](target)` or of `<img src="target">`. */
function isImage(prose, start) {
  if (/<img\s[^>]*src="$/i.test(prose.slice(0, start))) return true
  const close = prose.lastIndexOf(']', start)
  if (!/^\]\(\s*$/.test(prose.slice(close, start))) return false
  let depth = 0
  for (let at = close; at >= 0; at--) {
    if (prose[at] === ']') depth++
    else if (prose[at] === '[' && --depth === 0) return prose[at - 1] === '!'
  }
  return false
}

/**
 * The anchors of a page's headings, as GitHub makes them, and those that it sets itself.
 * @param {string} text
 * @returns {Set<string>}
 */
export function anchorsOf(text) {
  const anchors = new Set()
  const prose = blank(text, fences)
  for (const [, heading] of prose.matchAll(/^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$/gm)) {
    const words = heading.replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const slug = words.replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '').replaceAll(' ', '-')
    let name = slug
    for (let again = 1; anchors.has(name); again++) name = `${slug}-${again}`
    anchors.add(name)
  }
  for (const [, name] of prose.matchAll(/<[a-z][^>]*\s(?:id|name)="([^"]+)"/gi)) anchors.add(name)
  return anchors
}

/** As long as before, so that what is found in it lies at the same place in the text. */
function blank(text, what) {
  return text.replace(what, (found) => found.replace(/[^\n]/g, ' '))
}

/**
 * @param {string} page the path of the page that has the link
 * @param {string} target
 * @returns {{ file: string, anchor: string } | undefined} where it leads within the folder; undefined if to elsewhere
 */
function destination(page, target) {
  if (/^([a-z][a-z0-9+.-]*:|\/\/)/i.test(target)) return undefined
  const [, name, anchor = ''] = /^([^?#]*)(?:\?[^#]*)?(?:#(.*))?$/.exec(target) ?? []
  const folder = name.startsWith('/') ? '.' : path.posix.dirname(page)
  const file = name === '' ? page : path.posix.join(folder, decodeURIComponent(name).replace(/^\//, ''))
  return { file: file.replace(/(?<=.)\/$/, ''), anchor: decodeURIComponent(anchor) }
}

/**
 * Looks at links within the folder only. Those to the web are not followed.
 * @param {string} root
 * @param {readonly string[]} files all that is there, as paths from `root` with `/`
 * @returns {string[]} each link that leads nowhere, as `page:line: target: why`
 */
export function brokenLinks(root, files) {
  const isThere = new Set(files)
  const folders = new Set(files.flatMap(foldersOf))
  const textOf = (file) => readFileSync(path.join(root, file), 'utf8')
  const why = (page, target) => {
    const to = destination(page, target)
    if (to === undefined) return undefined
    if (!isThere.has(to.file)) return folders.has(to.file) && to.anchor === '' ? undefined : 'no such file'
    if (to.anchor === '' || (!to.file.endsWith('.md') && /^L\d+(-L\d+)?$/.test(to.anchor))) return undefined
    return to.file.endsWith('.md') && anchorsOf(textOf(to.file)).has(to.anchor) ? undefined : 'no such heading'
  }
  return pagesOf(files).flatMap((page) =>
    linksOf(textOf(page)).flatMap(({ target, line }) => {
      const reason = why(page, target)
      return reason === undefined ? [] : [`${page}:${line}: ${target}: ${reason}`]
    }),
  )
}

/** @param {readonly string[]} files */
export function pagesOf(files) {
  return files.filter((file) => file.endsWith('.md'))
}

/** `docs/protocol/README.md` lies in `docs/protocol`, `docs` and `.` */
function foldersOf(file) {
  const folders = []
  for (let at = file; at !== '.'; folders.push(at)) at = path.posix.dirname(at)
  return folders
}

/**
 * @param {string} page its path
 * @param {string} text
 * @param {object} options
 * @param {(file: string) => boolean} options.staysRelative
 * @param {(file: string, kind: 'page' | 'image') => string} options.addressOf
 * @returns {string} the page with absolute links, but for those that stay
 */
export function withAbsoluteLinks(page, text, { staysRelative, addressOf }) {
  let result = ''
  let done = 0
  for (const { target, start, end, isImage: shown } of linksOf(text)) {
    const to = destination(page, target)
    const stays = to === undefined || target.startsWith('#') || (!target.startsWith('/') && staysRelative(to.file))
    if (stays) continue
    const anchor = to.anchor === '' ? '' : `#${to.anchor}`
    result += text.slice(done, start) + addressOf(to.file, shown ? 'image' : 'page') + anchor
    done = end
  }
  return result + text.slice(done)
}
