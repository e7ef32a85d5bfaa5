// The example of Ignis: a small site with a router, JSON, an outgoing call and files, as a command behind the codec `ignis`.
package main

import (
	"encoding/json"
	"html"
	"os"
	"path"
	"strings"

	"guests/internal/fd"
)

// Where jokes come from, unless JOKE_URL says otherwise; the module has to be granted this origin.
const jokes = "https://official-joke-api.appspot.com/random_joke"

var routes = []route{
	{"/api/v1/", index},
	{"/user", users},
	{"/user/{id}", user},
	{"/joke", joke},
	{"/files", files},
	{"/static/*", static},
	{"/favicon.ico", func(fd.Request, string) fd.Response { return fd.Response{Status: 204} }},
}

func main() {
	fd.Main(func(request fd.Request) fd.Response { return dispatch(routes, request) })
}

func index(fd.Request, string) fd.Response {
	var page strings.Builder
	page.WriteString("<!DOCTYPE html>\n<title>Ignis</title>\n<h1>Ignis</h1>\n<ul>\n")
	for _, link := range []string{"user", "user/1", "joke", "files", "static/"} {
		page.WriteString("<li><a href=\"../../" + link + "\">/" + link + "</a></li>\n")
	}
	page.WriteString("</ul>\n")
	return fd.Text(200, "text/html; charset=utf-8", page.String())
}

type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

var people = []person{{"1", "Ada"}, {"2", "Grace"}, {"3", "Edsger"}}

func users(fd.Request, string) fd.Response {
	return asJSON(200, people)
}

func user(_ fd.Request, id string) fd.Response {
	for _, person := range people {
		if person.ID == id {
			return asJSON(200, person)
		}
	}
	return asJSON(404, map[string]string{"error": "there is no user " + id})
}

func asJSON(status int32, value any) fd.Response {
	body, err := json.Marshal(value)
	if err != nil {
		return fd.Text(500, "text/plain", err.Error()+"\n")
	}
	return fd.Text(status, "application/json", string(body)+"\n")
}

func joke(fd.Request, string) fd.Response {
	url := jokes
	if other := os.Getenv("JOKE_URL"); other != "" {
		url = other
	}
	response, err := get(url)
	if err != nil || response.Status != 200 {
		return fd.Text(502, "text/plain", "no joke today\n")
	}
	contentType := "text/plain"
	for name, values := range response.Header {
		if strings.EqualFold(name, "content-type") && len(values) > 0 {
			contentType = values[0]
		}
	}
	return fd.Text(200, contentType, string(response.Body))
}

// What the module sees of files at all.
func files(fd.Request, string) fd.Response {
	entries, err := os.ReadDir("/")
	if err != nil {
		return fd.Text(404, "text/plain", "no directory is granted at /\n")
	}
	var lines strings.Builder
	for _, entry := range entries {
		lines.WriteString(entry.Name())
		if entry.IsDir() {
			lines.WriteByte('/')
		}
		lines.WriteByte('\n')
	}
	return fd.Text(200, "text/plain", lines.String())
}

var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".json": "application/json",
	".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
}

// A file of the granted directory /static; in place of a folder its index.html.
func static(request fd.Request, rest string) fd.Response {
	if request.Method != "GET" && request.Method != "HEAD" {
		return fd.Text(405, "text/plain", "files are only read\n")
	}
	// Clean takes every `..` out of an absolute path, so that the name stays below the folder.
	name := "/static" + path.Clean("/"+rest)
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = path.Join(name, "index.html")
	}
	body, err := os.ReadFile(name)
	if err != nil {
		return fd.Text(404, "text/html; charset=utf-8", "<p>There is no file "+html.EscapeString("/static/"+rest)+".</p>\n")
	}
	contentType, known := types[path.Ext(name)]
	if !known {
		contentType = "application/octet-stream"
	}
	return fd.Text(200, contentType, string(body))
}
