// Links of the file system, which not every Windows lets every user make.
import { mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Makes a link of each kind, to see whether it leads anywhere. */
function whyNoLinks(kind: 'file' | 'junction'): string | false {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-links-')))
  const link = join(folder, 'link')
  const target = kind === 'file' ? join(folder, 'target') : folder
  try {
    if (kind === 'file') writeFileSync(target, '')
    symlinkSync(target, link, kind)
    realpathSync.native(link)
    return false
  } catch (error) {
    return `this system makes no ${kind} links (${(error as NodeJS.ErrnoException).code}; Wine 8 has none, Windows wants a privilege for those of files)`
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Options of a test that needs a link to a file. */
export const withFileLinks = { skip: whyNoLinks('file') }
/** Options of a test that needs a link to a folder: on Windows a junction. */
export const withFolderLinks = { skip: whyNoLinks('junction') }
