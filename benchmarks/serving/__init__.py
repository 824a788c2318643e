"""How fast predictions are served: beside other servers, as load grows, and while other work goes on."""
