/**
 * How a message names a page of `docs/`, which travels in the package. By the place where developers have it: the program that fails may be
 * a bundle or an archive, in which the page has no path that could be opened.
 */
export function docsPage(name: `${string}.md`): string {
  return `node_modules/os-mutex/docs/${name}`
}
