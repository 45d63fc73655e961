module example.com/my-go-app

go 1.18

require example.com/greet v1.0.0
