// Package source is a commit as a value: names, Git object ids and contents.
//
// A Tree is what every later stage reads. There are two makers of one: FromFS, for a working directory or a
// test, and New, over any store of Git objects. Both give true Git ids, so the id of a directory names all
// that lies below it and may key a cache without a byte being read.
//
// # What a tree may hold
//
// Check goes over every tree before anybody sees it, also over directories that no render looks into:
//
//   - names that are empty, ".", "..", ".git" in any spelling a file system takes for it (".GIT", "git~1",
//     ".git ", ".g<ZWNJ>it"), hold a slash, a backslash, a control character or bytes that are not UTF-8, or
//     are longer than MaxName, are refused with their path;
//   - two names that differ in case only, and a file and a directory of one name, are refused with both paths,
//     since a colleague's laptop would show one of them;
//   - submodules are refused by name: what they point at is not in the commit;
//   - a symbolic link whose target leaves the tree is refused with its path and its target.
//
// A symbolic link that stays in the tree is listed (fs.ModeSymlink) and never followed: ReadFile of it is an
// error that names the path. Following it would make a directory's contents depend on more than its id. So a
// README that is a link to docs/ harms nobody, and a manifest that is a link is an error on its app.
package source
