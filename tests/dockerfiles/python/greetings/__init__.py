def greet(name):
    return "hello from a wheel, " + name + "\n"
