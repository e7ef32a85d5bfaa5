package main

import (
	"strings"

	"guests/internal/fd"
)

// What answers; `rest` is what a pattern leaves open.
type handler func(request fd.Request, rest string) fd.Response

type route struct {
	pattern string
	handler handler
}

// The first route that matches. A pattern ends in `{name}`, which is one part of a path, in `*`, which is all that follows, or is a path.
func dispatch(routes []route, request fd.Request) fd.Response {
	path := request.Path()
	for _, route := range routes {
		if rest, matches := match(route.pattern, path); matches {
			return route.handler(request, rest)
		}
	}
	return fd.Text(404, "text/plain", "there is nothing at "+path+"\n")
}

func match(pattern, path string) (string, bool) {
	if stem, open := strings.CutSuffix(pattern, "*"); open {
		return strings.CutPrefix(path, stem)
	}
	if at := strings.IndexByte(pattern, '{'); at >= 0 {
		rest, matches := strings.CutPrefix(path, pattern[:at])
		return rest, matches && rest != "" && !strings.Contains(rest, "/")
	}
	return "", path == pattern
}
