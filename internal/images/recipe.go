package images

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Recipe says what goes into an image.
type Recipe struct {
	Name     string
	Program  string   // Go package built into /<last element of its path>, or ""
	Packages []string // of Debian, or none
	Files    []string // absolute paths taken from the packages, directories whole, with the libraries they link to
	Links    map[string]string
	Dirs     map[string]Owner  // further empty directories
	Texts    map[string]string // further files: path -> contents
	Config   v1.Config
}

// Owner is the mode and the numeric owner, user and group alike, of a directory.
type Owner struct {
	Mode int64
	ID   int
}

// Version is the environment variable that tells a program its image's tag.
const Version = "VERSION"

const module = "github.com/shoal-dev/shoal/examples/images/"

const users = "root:x:0:0:root:/:/bin/sh\nredis:x:999:999::/data:/bin/false\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"

const groups = "root:x:0:\nredis:x:999:\nwww-data:x:33:\nnogroup:x:65534:\n"

var recipes = []Recipe{
	{
		Name: "busybox", Packages: []string{"busybox-static"}, Files: []string{"/bin/busybox"},
		Links:  applets(),
		Dirs:   map[string]Owner{"/tmp": {Mode: 0o1777}, "/root": {Mode: 0o700}},
		Texts:  map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{searchPath}},
	},
	{
		Name: "echo", Program: module + "echo",
		Texts:  map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{Entrypoint: []string{"/echo"}, User: "65534:65534"},
	},
	{
		Name: "guestbook", Program: module + "guestbook",
		Texts:  map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{Entrypoint: []string{"/guestbook"}, User: "65534:65534", ExposedPorts: map[string]struct{}{"8080/tcp": {}}},
	},
	{
		Name: "nginx", Packages: []string{"nginx"}, Files: []string{"/usr/sbin/nginx", "/etc/nginx/mime.types"},
		Dirs: map[string]Owner{"/tmp": {Mode: 0o1777}, "/var/lib/nginx": {Mode: 0o755}, "/var/log/nginx": {Mode: 0o755}, "/var/www": {Mode: 0o755}},
		Texts: map[string]string{
			"/etc/passwd": users, "/etc/group": groups,
			"/etc/nginx/nginx.conf": nginxConf, "/etc/nginx/conf.d/default.conf": nginxSite,
		},
		Config: v1.Config{
			Entrypoint: []string{"/usr/sbin/nginx"}, Cmd: []string{"-g", "daemon off;"}, Env: []string{searchPath},
			ExposedPorts: map[string]struct{}{"8080/tcp": {}}, StopSignal: "SIGQUIT",
		},
	},
	{
		Name: "probe", Program: module + "probe",
		Dirs:   map[string]Owner{"/tmp": {Mode: 0o1777}},
		Texts:  map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{Entrypoint: []string{"/probe"}, Cmd: []string{"serve"}, ExposedPorts: map[string]struct{}{"8080/tcp": {}}},
	},
	{
		Name: "redis", Packages: []string{"redis-server"}, Files: []string{"/usr/bin/redis-server", "/usr/bin/redis-cli"},
		Dirs:  map[string]Owner{"/tmp": {Mode: 0o1777}, "/data": {Mode: 0o755, ID: 999}},
		Texts: map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{
			Entrypoint: []string{"/usr/bin/redis-server"},
			Cmd:        []string{"--bind", "*", "--protected-mode", "no", "--dir", "/data", "--save", "60", "1"},
			Env:        []string{searchPath}, User: "999:999", WorkingDir: "/data",
			ExposedPorts: map[string]struct{}{"6379/tcp": {}},
		},
	},
	{
		Name: "report", Program: module + "report",
		Texts:  map[string]string{"/etc/passwd": users, "/etc/group": groups},
		Config: v1.Config{Entrypoint: []string{"/report"}, User: "65534:65534"},
	},
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// nginxConf runs in the foreground of a container: logs to its streams, writable files under /tmp, so that a
// read-only root and any user will do.
const nginxConf = `worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log off;
    client_body_temp_path /tmp/client_body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    include /etc/nginx/conf.d/*.conf;
}
`

const nginxSite = `server {
    listen 8080;
    location / {
        proxy_pass http://127.0.0.1:8081;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}
`

// applets are the names under which busybox is linked; `busybox NAME` reaches the others.
func applets() map[string]string {
	const names = `[ ash awk basename cat chgrp chmod chown clear cp cut date dd df diff dirname dmesg du echo egrep env
		expr false fgrep find free grep gunzip gzip head hexdump hostname id ip kill killall less ln ls md5sum mkdir
		mktemp more mount mv nc netstat nohup nslookup od ping printf ps pwd readlink realpath rm rmdir sed seq sh
		sha256sum sleep sort stat stty sync tail tar tee telnet test timeout top touch tr traceroute true tty umount
		uname uniq unzip uptime usleep vi watch wc wget which whoami xargs yes zcat`
	links := map[string]string{}
	for name := range strings.FieldsSeq(names) {
		links["/bin/"+name] = "busybox"
	}
	return links
}

// Names are the images that can be built, sorted.
func Names() []string {
	names := make([]string, len(recipes))
	for i, r := range recipes {
		names[i] = r.Name
	}
	return names
}

// Find returns the recipe of a name.
func Find(name string) (Recipe, error) {
	i := slices.IndexFunc(recipes, func(r Recipe) bool { return r.Name == name })
	if i < 0 {
		return Recipe{}, fmt.Errorf("image %q: there is no such recipe; there are %s", name, strings.Join(Names(), ", "))
	}
	return recipes[i], nil
}
