// Answers with the body of the request, its type, and in header fields its method and target. Proves the codec `ignis` with nothing else.
package main

import "guests/internal/fd"

func main() {
	fd.Main(func(request fd.Request) fd.Response {
		header := map[string][]string{"X-Method": {request.Method}, "X-Uri": {request.RequestURI}}
		if contentType := request.Header["Content-Type"]; contentType != nil {
			header["Content-Type"] = contentType
		}
		return fd.Response{Status: 200, Header: header, Body: request.Body}
	})
}
