void appMain();
